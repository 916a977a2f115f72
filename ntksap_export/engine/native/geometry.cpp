#include "geometry.h"

#include <algorithm>

namespace ntksap {

namespace {

struct Reach {
  int64_t low, high;  // least and greatest shift of a kernel's taps along one axis, in positions of the phases
  int64_t data;       // how many positions of the longest phase are read
};

int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }
int64_t modulo(int64_t a, int64_t b) { return a - floor_div(a, b) * b; }

// Along one axis: tap i of output position p reads input p * stride + i * dilation - pad.
Reach reach_of(uint32_t kernel, uint32_t stride, uint32_t dilation, uint32_t pad, uint32_t input, uint32_t output) {
  Reach reach{0, 0, 0};
  for (uint32_t i = 0; i < kernel; ++i) {
    const int64_t at = int64_t(i) * dilation - int64_t(pad), shift = floor_div(at, stride), phase = modulo(at, stride);
    reach.low = std::min(reach.low, shift);
    reach.high = std::max(reach.high, shift);
    const int64_t length = (int64_t(input) - phase + stride - 1) / stride;  // positions of this phase that hold data
    reach.data = std::max(reach.data, std::min(length, output + shift));
  }
  return reach;
}

Reach rows_of(const Op& op, const TensorInfo& in, const TensorInfo& out) {
  return reach_of(op.window.kh, op.window.sh, op.window.dh, op.window.pad_top, in.height, out.height);
}

Reach columns_of(const Op& op, const TensorInfo& in, const TensorInfo& out) {
  return reach_of(op.window.kw, op.window.sw, op.window.dw, op.window.pad_left, in.width, out.width);
}

bool single(uint32_t height, uint32_t width) { return height == 1 && width == 1; }

bool in_place(const Op& op, const TensorInfo& in, const TensorInfo& out) {
  return op.window.sh == 1 && op.window.sw == 1 && in.height == out.height && in.width == out.width;
}

uint64_t key(uint32_t height, uint32_t width) { return uint64_t(height) << 32 | width; }

int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Rows `data` high and wide in the output's pitch, with room for every shift above and below.
Layout split_layout(const Layout& to, int channels, const Reach& rows, const Reach& columns) {
  Layout layout{};
  layout.channels = channels;
  layout.height = int(std::max<int64_t>(rows.data, 1));
  layout.width = int(std::max<int64_t>(columns.data, 1));
  layout.pitch = to.pitch;
  layout.gap = to.pitch - layout.width;
  layout.lanes = to.lanes;
  const int64_t before = -rows.low * to.pitch - columns.low;
  const int64_t after = (to.height + rows.high) * int64_t(to.pitch) + columns.high + kVector;
  layout.origin = up(before * to.lanes, kVector);
  layout.stride = (up(layout.origin + after * to.lanes, kVector) / kVector | 1) * kVector;
  return layout;
}

size_t phase_number(const Split& split, uint32_t ry, uint32_t rx) {
  for (size_t i = 0; i < split.phases.size(); ++i)
    if (split.phases[i].ry == ry && split.phases[i].rx == rx) return i;
  return split.phases.size();
}

void add_phase(Split& split, uint32_t ry, uint32_t rx) {
  if (phase_number(split, ry, rx) == split.phases.size()) split.phases.push_back({ry, rx});
}

// Calls with(column, c, dy, dx) for each column; dy, dx from the output's position times the stride, in the input.
template <class With>
void for_columns(const Op& op, uint32_t channels, With with) {
  const Window& w = op.window;
  size_t column = 0;
  for (uint32_t c = 0; c < channels; ++c)
    for (uint32_t ky = 0; ky < w.kh; ++ky)
      for (uint32_t kx = 0; kx < w.kw; ++kx, ++column)
        with(column, c, int64_t(ky) * w.dh - int64_t(w.pad_top), int64_t(kx) * w.dw - int64_t(w.pad_left));
}

int32_t shift(const Layout& layout, int64_t channel, int64_t dy, int64_t dx) {
  return int32_t(channel * layout.stride + (dy * layout.pitch + dx) * layout.lanes);
}

void gather(ConvGeometry& g, const Op& op, const TensorInfo& in) {
  g.reading = Reading::Gathered;
  for_columns(op, in.channels, [&](size_t k, uint32_t c, int64_t dy, int64_t dx) {
    const bool inside = dy >= 0 && dx >= 0 && dy < int64_t(in.height) && dx < int64_t(in.width);
    g.offsets[k] = inside ? shift(g.source, c, dy, dx) : -1;
  });
}

void copy(ConvGeometry& g, const Op& op, const TensorInfo& in, const TensorInfo& out, const Layout& to) {
  g.reading = Reading::Copied;
  g.split.sh = op.window.sh;
  g.split.sw = op.window.sw;
  for_columns(op, 1, [&](size_t, uint32_t, int64_t dy, int64_t dx) {
    add_phase(g.split, uint32_t(modulo(dy, g.split.sh)), uint32_t(modulo(dx, g.split.sw)));
  });
  std::sort(g.split.phases.begin(), g.split.phases.end(),
            [](Phase a, Phase b) { return a.ry != b.ry ? a.ry < b.ry : a.rx < b.rx; });
  const int64_t phases = int64_t(g.split.phases.size());
  g.source = split_layout(to, int(in.channels * phases), rows_of(op, in, out), columns_of(op, in, out));
  for_columns(op, in.channels, [&](size_t k, uint32_t c, int64_t dy, int64_t dx) {
    const size_t phase = phase_number(g.split, uint32_t(modulo(dy, g.split.sh)), uint32_t(modulo(dx, g.split.sw)));
    g.offsets[k] = shift(g.source, c * phases + int64_t(phase), floor_div(dy, g.split.sh), floor_div(dx, g.split.sw));
  });
}

}  // namespace

Gaps::Gaps(const Plan& plan) {
  for (const Op& op : plan.ops) {
    if (op.kind != Kind::Conv) continue;
    const TensorInfo &in = plan.tensors[op.inputs[0]], &out = plan.tensors[op.output];
    if (single(out.height, out.width)) continue;
    const Reach rows = rows_of(op, in, out), columns = columns_of(op, in, out);
    need(out.height, out.width,
         std::max({-columns.low, columns.high, columns.data - columns.low - int64_t(out.width)}));
    if (in_place(op, in, out)) need(out.height, out.width, std::max(-rows.low, rows.high));
  }
}

void Gaps::need(uint32_t height, uint32_t width, int64_t gap) {
  for (auto& known : gaps_) {
    if (known.first != key(height, width)) continue;
    known.second = std::max(known.second, int(gap));
    return;
  }
  gaps_.emplace_back(key(height, width), int(std::max<int64_t>(gap, 0)));
}

int Gaps::of(const TensorInfo& tensor) const {
  for (const auto& known : gaps_)
    if (known.first == key(tensor.height, tensor.width)) return known.second;
  return 0;
}

Layout tensor_layout(const TensorInfo& tensor, const Gaps& gaps, int lanes) {
  return make_layout(int(tensor.channels), int(tensor.height), int(tensor.width), gaps.of(tensor), lanes);
}

ConvGeometry conv_geometry(const Op& op, const TensorInfo& in, const TensorInfo& out, const Layout& from,
                           const Layout& to) {
  ConvGeometry g;
  g.source = from;
  g.offsets.resize(op.weights.columns);
  if (single(out.height, out.width)) {
    gather(g, op, in);
  } else if (in_place(op, in, out)) {
    for_columns(op, in.channels,
                [&](size_t k, uint32_t c, int64_t dy, int64_t dx) { g.offsets[k] = shift(from, c, dy, dx); });
  } else {
    copy(g, op, in, out, to);
  }
  return g;
}

std::vector<Place> tiles_of(const Layout& output, const Layout& source, int vectors, size_t multiple) {
  std::vector<Place> tiles;
  const bool flat = output.lanes == 1;
  const int64_t rows = flat ? 1 : output.height,
                width = flat ? up(output.positions(), kVector) / kVector : output.width;
  const int64_t least = (width + vectors - 1) / vectors, even = flat ? up(least, int64_t(multiple)) : least;
  const int64_t parts = even <= width ? even : least;
  for (int64_t y = 0; y < rows; ++y) {
    for (int64_t i = 0; i < parts; ++i) {
      const int64_t begin = width * i / parts, end = width * (i + 1) / parts;
      const int64_t row = flat ? 0 : y;
      tiles.push_back({(row * output.pitch + begin) * kVector, (row * source.pitch + begin) * kVector, int(end - begin),
                       int(begin)});
    }
  }
  return tiles;
}

std::vector<uint16_t> masks_of(const Layout& layout) {
  std::vector<uint16_t> masks;
  if (layout.lanes != 1 || (layout.height == 1 && layout.width == 1)) return masks;
  masks.resize(size_t(up(layout.positions(), kVector) / kVector), 0);
  for (int y = 0; y < layout.height; ++y)
    for (int x = 0; x < layout.width; ++x) {
      const int64_t p = int64_t(y) * layout.pitch + x;
      masks[size_t(p / kVector)] |= uint16_t(1u << (p % kVector));
    }
  return masks;
}

}  // namespace ntksap
