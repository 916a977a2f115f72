// Whether the tensors of an operator fit each other: what every kernel may then take for granted.
#include "plan_reader.h"

namespace ntksap {
namespace {

std::string shape(const TensorInfo& t) { return text(t.channels) + " x " + text(t.height) + " x " + text(t.width); }

bool same(const TensorInfo& a, const TensorInfo& b) {
  return a.channels == b.channels && a.height == b.height && a.width == b.width && a.rank == b.rank;
}

std::string of_rank(const TensorInfo& tensor, const TensorInfo& other) {
  return tensor.rank == other.rank ? "" : " of rank " + text(tensor.rank);
}

void check_same(const TensorInfo& wanted, const TensorInfo& got, const char* what) {
  if (!same(wanted, got))
    refuse(std::string(what) + " is " + shape(got) + of_rank(got, wanted) + "; wanted " + shape(wanted) +
           of_rank(wanted, got));
}

uint64_t reach(uint32_t kernel, uint32_t dilation) { return (kernel - 1) * uint64_t(dilation) + 1; }

// The output's rows (or columns) may look beyond the input's end by the kernel's reach at most; what lies there is
// zero.
void check_convolved(uint64_t in, uint64_t out, uint32_t kernel, uint32_t stride, uint32_t dilation, uint32_t pad,
                     const char* side) {
  const uint64_t seen = (out - 1) * stride + reach(kernel, dilation), there = in + pad + reach(kernel, dilation);
  if (seen > there)
    refuse(std::string("its output's ") + side + " of " + text(out) + " needs " + text(seen) +
           " positions, the padded input has at most " + text(there));
}

void check_padding(uint64_t pad, uint32_t kernel, uint32_t dilation, const char* side) {
  if (pad > reach(kernel, dilation))
    refuse(std::string("its padding of the ") + side + " is " + text(pad) + ", its kernel reaches " +
           text(reach(kernel, dilation)));
}

void check_paddings(const Window& w) {
  check_padding(w.pad_top, w.kh, w.dh, "height");
  check_padding(w.pad_bottom, w.kh, w.dh, "height");
  check_padding(w.pad_left, w.kw, w.dw, "width");
  check_padding(w.pad_right, w.kw, w.dw, "width");
}

// Whether one of kernel positions start, start + dilation, ... lies in [0, in).
bool touches(int64_t start, int64_t in, int64_t kernel, int64_t dilation) {
  const int64_t first = start >= 0 ? 0 : (-start + dilation - 1) / dilation;
  return first < kernel && start + first * dilation < in;
}

// Every window of a pool must hold something: of the input, or (padded average) of the padded plane.
void check_pooled(uint64_t in, uint64_t out, uint32_t kernel, uint32_t stride, uint32_t dilation, uint32_t before,
                  uint32_t after, bool padded, const char* side) {
  for (uint64_t o = 0; o < out; ++o) {
    const int64_t start = int64_t(o * stride) - (padded ? 0 : int64_t(before));
    const int64_t end = int64_t(in) + (padded ? int64_t(before) + after : 0);
    if (!touches(start, end, kernel, dilation))
      refuse("window " + text(o) + " of its output's " + side + " holds nothing of the input");
  }
  const uint64_t seen = (out - 1) * stride + reach(kernel, dilation), there = in + before + after + stride - 1;
  if (seen > there)
    refuse(std::string("its output's ") + side + " of " + text(out) + " needs " + text(seen) +
           " positions, the padded input has at most " + text(there));
}

void check_conv(const Op& op, const TensorInfo& in, const TensorInfo& out) {
  const Window& w = op.window;
  check_paddings(w);
  check_convolved(in.height, out.height, w.kh, w.sh, w.dh, w.pad_top, "height");
  check_convolved(in.width, out.width, w.kw, w.sw, w.dw, w.pad_left, "width");
}

void check_pool(const Op& op, const TensorInfo& in, const TensorInfo& out) {
  const Window& w = op.window;
  const bool padded = op.mode == PoolMode::AveragePadded;
  if (in.channels != out.channels) refuse("it makes " + text(out.channels) + " channels of " + text(in.channels));
  check_paddings(w);
  check_pooled(in.height, out.height, w.kh, w.sh, w.dh, w.pad_top, w.pad_bottom, padded, "height");
  check_pooled(in.width, out.width, w.kw, w.sw, w.dw, w.pad_left, w.pad_right, padded, "width");
}

void check_multiplied(const TensorInfo& second, const TensorInfo& out) {
  const bool broadcast = second.channels == out.channels && second.height == 1 && second.width == 1;
  if (!same(second, out) && !broadcast)
    refuse("its second input is " + shape(second) + "; wanted " + shape(out) + " or " + text(out.channels) +
           " x 1 x 1");
}

void check_concatenated(const Plan& plan, const Op& op, const TensorInfo& out) {
  uint64_t channels = 0;
  for (const uint32_t id : op.inputs) {
    const TensorInfo& in = plan.tensors[id];
    if (in.height != out.height || in.width != out.width)
      refuse("an input is " + shape(in) + ", the output " + shape(out));
    channels += in.channels;
  }
  if (channels != out.channels)
    refuse("its inputs have " + text(channels) + " channels, its output " + text(out.channels));
}

void check_flattened(const TensorInfo& in, const TensorInfo& out) {
  const uint64_t elements = uint64_t(in.channels) * in.height * in.width;
  if (out.channels != elements || out.height != 1 || out.width != 1)
    refuse("it makes " + shape(out) + " of " + shape(in) + "; wanted " + text(elements) + " x 1 x 1");
}

}  // namespace

void check_shapes(const Plan& plan, const Op& op) {
  const TensorInfo& out = plan.tensors[op.output];
  const TensorInfo& in = plan.tensors[op.inputs[0]];
  switch (op.kind) {
    case Kind::Conv:
      check_conv(op, in, out);
      if (op.inputs.size() == 2) check_same(out, plan.tensors[op.inputs[1]], "its residual");
      return;
    case Kind::Pool: return check_pool(op, in, out);
    case Kind::GlobalPool: return check_same(TensorInfo{in.channels, 1, 1, out.rank}, out, "its output");
    case Kind::Add:
      check_same(out, in, "its first input");
      return check_same(out, plan.tensors[op.inputs[1]], "its second input");
    case Kind::Mul: check_same(out, in, "its first input"); return check_multiplied(plan.tensors[op.inputs[1]], out);
    case Kind::Concat: return check_concatenated(plan, op, out);
    case Kind::Act: return check_same(in, out, "its output");
    case Kind::Flatten: return check_flattened(in, out);
  }
}

}  // namespace ntksap
