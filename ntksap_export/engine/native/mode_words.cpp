// What a plan looks like to the engine: sizes that must be checked before anything is allocated, and a description in
// JSON.
#include <cstdio>
#include <stdexcept>

#include "dispatch.h"
#include "mode.h"

namespace ntksap {

namespace {

const char* name_of(Kind kind) {
  switch (kind) {
    case Kind::Conv: return "conv";
    case Kind::Pool: return "pool";
    case Kind::GlobalPool: return "global_pool";
    case Kind::Add: return "add";
    case Kind::Mul: return "mul";
    case Kind::Concat: return "concat";
    case Kind::Act: return "act";
    case Kind::Flatten: return "flatten";
  }
  return "";
}

std::string shape(const TensorInfo& t) {
  return "[" + std::to_string(t.channels) + ", " + std::to_string(t.height) + ", " + std::to_string(t.width) + "]";
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value);
  return text;
}

// Multiply-adds of an operator's weights that are not zero, for one image.
uint64_t multiplications(const ConvLayer& layer, const TensorInfo& out) {
  return layer.nonzeros() * out.height * out.width;
}

std::string conv_words(const Op& op, const ConvLayer& layer, const TensorInfo& out) {
  return ", \"kernel_size\": [" + std::to_string(op.window.kh) + ", " + std::to_string(op.window.kw) +
         "], \"density\": " + number(layer.density()) + ", \"macs\": " + std::to_string(multiplications(layer, out)) +
         ", \"kernel\": \"" + layer.kernel() + "\", \"parts\": " + std::to_string(layer.parts()) +
         ", \"bytes\": " + std::to_string(layer.bytes());
}

}  // namespace

Kernels kernels_of(Isa isa) {
  if (isa == Isa::Avx512 && conv_avx512() && aux_avx512()) return {isa_name(isa), conv_avx512(), aux_avx512()};
  if (isa != Isa::Portable && conv_avx2() && aux_avx2()) return {isa_name(Isa::Avx2), conv_avx2(), aux_avx2()};
  return {isa_name(Isa::Portable), conv_portable(), aux_portable()};
}

int64_t image_floats(const TensorInfo& t) { return int64_t(t.channels) * t.height * t.width; }

std::vector<uint32_t> crossing_tensors(const Plan& plan, size_t cut) {
  std::vector<size_t> written(plan.tensors.size(), 0), read(plan.tensors.size(), 0);
  for (size_t i = 0; i < plan.ops.size(); ++i) {
    written[plan.ops[i].output] = i + 1;
    for (const uint32_t id : plan.ops[i].inputs) read[id] = i + 1;
  }
  std::vector<uint32_t> crossing;
  for (uint32_t id = 0; id < plan.tensors.size(); ++id)
    if (written[id] > 0 && written[id] <= cut && read[id] > cut) crossing.push_back(id);
  return crossing;
}

bool layouts_fit(const Plan& plan, int lanes) {
  constexpr int64_t most = int64_t(1) << 30;
  const Gaps gaps(plan);
  for (const TensorInfo& tensor : plan.tensors)
    if (tensor_layout(tensor, gaps, lanes).floats() > most) return false;
  for (const Op& op : plan.ops) {
    if (op.kind != Kind::Conv) continue;
    const TensorInfo &in = plan.tensors[op.inputs[0]], &out = plan.tensors[op.output];
    // A copy in phases: at most the kernel's size times the channels, in the output's pitch and a margin on each side.
    const uint64_t phases =
        std::min<uint64_t>(uint64_t(op.window.sh) * op.window.sw, uint64_t(op.window.kh) * op.window.kw);
    const Layout to = tensor_layout(out, gaps, lanes);
    const int64_t rows = int64_t(out.height) + op.window.pad_top + 2 * int64_t(op.window.kh) * op.window.dh + 2;
    if (double(in.channels) * double(phases) * double(rows) * double(to.pitch + 2) * lanes > double(most)) return false;
  }
  return true;
}

void check_layouts(const Plan& plan) {
  if (!layouts_fit(plan, 1)) throw std::length_error("a tensor of the plan is too large");
}

std::string describe_modes(const Plan& plan, const Kernels& kernels, const Mode* planes, const Mode* group,
                           size_t cut) {
  std::string text =
      "{\"isa\": \"" + std::string(kernels.isa) + "\", \"cut\": " + std::to_string(cut) + ", \"operators\": [";
  bool first = true;
  for (const Mode* mode : {planes, group}) {
    for (size_t i = 0; mode && i < plan.ops.size(); ++i) {
      const Op& op = plan.ops[i];
      const ConvLayer* layer = mode->layer(i);
      if ((layer && !mode->prepared(i)) || (mode == group && i < cut)) continue;
      const TensorInfo &in = plan.tensors[op.inputs[0]], &out = plan.tensors[op.output];
      text += (first ? "" : ", ") + std::string("{\"number\": ") + std::to_string(i) + ", \"kind\": \"" +
              name_of(op.kind) + "\", \"images\": " + (mode == group ? "16" : "1") + ", \"input\": " + shape(in) +
              ", \"output\": " + shape(out) + ", \"us\": " + number(mode->seconds(i) * 1e6);
      if (layer) text += conv_words(op, *layer, out);
      text += "}";
      first = false;
    }
  }
  return text + "]}";
}

}  // namespace ntksap
