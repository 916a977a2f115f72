// Every form that a convolution may take against plain loops, for each instruction set of this CPU: the candidates that the
// engine would measure and others like them, rows in one to three parts. Which of them runs is otherwise up to the clock.
// Usage: conv_check SEED ROUNDS; prints the first difference and exits with 1, or the instruction sets checked.
#include <algorithm>

#include "conv_layer.h"
#include "images.h"
#include "tune.h"

using namespace ntksap;
using namespace check;

constexpr double kTolerance = 2e-5;

// A convolution with its weights, dense or as entries.
struct Drawn {
  Plan plan;
  std::vector<float> dense, values, bias;
  std::vector<uint32_t> counts;
  std::vector<uint16_t> deltas;
};

static int draw_of(std::initializer_list<int> list) { return list.begin()[draw(0, int(list.size()) - 1)]; }

static uint32_t outputs_of(int in, uint32_t kernel, uint32_t stride, uint32_t dilation, uint32_t before) {
  const int reach = int((kernel - 1) * dilation) + 1, after = draw(0, reach);
  const int seen = in + int(before) + after - reach;
  return seen < 0 ? 1 : uint32_t(seen / int(stride)) + 1;
}

static void draw_window(Op& op, const TensorInfo& in, TensorInfo& out) {
  Window& w = op.window;
  w.kh = uint32_t(draw_of({1, 1, 2, 3, 3, 5})), w.kw = uint32_t(draw_of({1, 1, 2, 3, 3, 7}));
  if (draw(0, 5) == 0) w.kh = in.height, w.kw = in.width;
  w.sh = uint32_t(draw_of({1, 1, 1, 2, 3})), w.sw = uint32_t(draw_of({1, 1, 1, 2, 3}));
  w.dh = uint32_t(draw_of({1, 1, 2})), w.dw = uint32_t(draw_of({1, 1, 3}));
  w.pad_top = uint32_t(draw(0, int((w.kh - 1) * w.dh) + 1)), w.pad_left = uint32_t(draw(0, int((w.kw - 1) * w.dw) + 1));
  out.height = outputs_of(int(in.height), w.kh, w.sh, w.dh, w.pad_top);
  out.width = outputs_of(int(in.width), w.kw, w.sw, w.dw, w.pad_left);
  if (draw(0, 1) == 0 && w.sh == 1 && w.sw == 1) {  // the usual one
    w.pad_top = (w.kh - 1) * w.dh / 2, w.pad_left = (w.kw - 1) * w.dw / 2;
    out.height = in.height, out.width = in.width;
  }
}

static void draw_weights(Drawn& drawn, Op& op, const TensorInfo& in, const TensorInfo& out) {
  Weights& w = op.weights;
  w.rows = out.channels, w.columns = uint64_t(in.channels) * op.window.kh * op.window.kw;
  const int density = draw_of({0, 3, 10, 40, 80, 100});
  const uint64_t groups = in.channels % 2 == 0 && draw(0, 3) == 0 ? 2 : 1, share = w.columns / groups;
  drawn.dense.assign(w.rows * w.columns, 0.0f);
  for (uint64_t row = 0; row < w.rows; ++row)
    for (uint64_t k = row % groups * share; k < (row % groups + 1) * share; ++k)
      if (draw(0, 99) < density) drawn.dense[row * w.columns + k] = draw_value() / std::sqrt(float(share));
  for (uint64_t row = 0; row < w.rows; ++row) {
    uint64_t next = 0;
    drawn.counts.push_back(0);
    for (uint64_t k = 0; k < w.columns; ++k) {
      const float value = drawn.dense[row * w.columns + k];
      if (value == 0 && draw(0, 99) > 0) continue;  // an entry may be a zero too
      drawn.values.push_back(value);
      drawn.deltas.push_back(uint16_t(k - next));
      drawn.counts.back() += 1;
      next = k + 1;
    }
  }
  w.sparse = draw(0, 1) == 0;
  w.values = w.sparse ? drawn.values.data() : drawn.dense.data();
  w.counts = drawn.counts.data(), w.deltas = drawn.deltas.data();
  w.nnz = w.sparse ? drawn.values.size() : drawn.dense.size();
  for (uint32_t i = 0; i < out.channels; ++i) drawn.bias.push_back(draw_value());
  if (draw(0, 1)) w.bias = drawn.bias.data();
}

static void draw_convolution(Drawn& drawn) {
  TensorInfo in{uint32_t(draw(1, 40)), uint32_t(draw_of({1, 2, 3, 7, 14, 17, 30})), uint32_t(draw_of({1, 3, 7, 13, 16, 28, 33})), 4};
  if (draw(0, 5) == 0) in.height = in.width = 1;
  TensorInfo out{uint32_t(draw(1, 40)), 1, 1, 4};
  Op op{};
  op.kind = Kind::Conv;
  op.inputs = {0};
  op.output = 1;
  op.activation = draw_activation();
  draw_window(op, in, out);
  draw_weights(drawn, op, in, out);
  drawn.plan.tensors = {in, out};
  if (draw(0, 1)) {
    op.inputs.push_back(2);
    drawn.plan.tensors.push_back(out);
  }
  drawn.plan.ops = {op};
}

// The sums, in double; without the bias and what follows.
static std::vector<double> sums_of(const Drawn& drawn, Images& x) {
  const Op& op = drawn.plan.ops[0];
  const TensorInfo &in = drawn.plan.tensors[0], &out = drawn.plan.tensors[1];
  const Window& w = op.window;
  std::vector<double> sums(size_t(x.shape.images) * out.channels * out.height * out.width, 0.0);
  size_t at = 0;
  for (int n = 0; n < x.shape.images; ++n)
    for (uint32_t o = 0; o < out.channels; ++o)
      for (int y = 0; y < int(out.height); ++y)
        for (int column = 0; column < int(out.width); ++column, ++at) {
          const float* weight = drawn.dense.data() + o * op.weights.columns;
          for (int c = 0; c < int(in.channels); ++c)
            for (int ky = 0; ky < int(w.kh); ++ky)
              for (int kx = 0; kx < int(w.kw); ++kx, ++weight) {
                const int iy = y * int(w.sh) + ky * int(w.dh) - int(w.pad_top), ix = column * int(w.sw) + kx * int(w.dw) - int(w.pad_left);
                if (*weight != 0 && iy >= 0 && ix >= 0 && iy < int(in.height) && ix < int(in.width))
                  sums[at] += double(*weight) * x.at(n, c, iy, ix);
              }
        }
  return sums;
}

// The input's copy in phases, as the engine makes it.
static std::vector<float> split(const ConvLayer& layer, const ConvKernels& kernels, const std::vector<float>& data, const Layout& from) {
  const ConvGeometry& g = layer.geometry();
  if (g.reading != Reading::Copied) return data;
  std::vector<float> copy(size_t(g.source.floats()) + 64, 0.0f);
  const Phases phases{g.split.sh, g.split.sw, uint32_t(g.split.phases.size()), g.split.phases.data()};
  for (int c = 0; c < from.channels; ++c)
    kernels.split(data.data() + c * from.stride, from, copy.data() + c * int64_t(phases.count) * g.source.stride, g.source, phases);
  return copy;
}

static std::vector<Choice> choices_of(const ConvLayer& layer, const ConvKernels& kernels) {
  std::vector<Choice> list = candidates_of(layer, kernels);
  const uint32_t columns = uint32_t(layer.op().weights.columns);
  if (layer.vector_shaped()) return {{false, 1, false, columns}, {true, 1, false, columns}};
  if (layer.geometry().reading == Reading::Gathered) return list;
  for (int i = 0; i < 4; ++i) {
    const bool dense = draw(0, 1) == 0;
    const int vectors = draw(1, dense ? kernels.dense_vectors : kernels.sparse_vectors), most = 65535 / vectors;  // offsets of 16 bits
    list.push_back({dense, vectors, draw(0, 1) == 0, uint32_t(draw(1, int(columns) < most ? int(columns) : most))});
  }
  return list;
}

struct Case {
  Drawn& drawn;
  Images &x, &residual;
  const std::vector<double>& sums;
};

static void check_choice(const Case& t, ConvLayer& layer, const Choice& choice, const std::vector<float>& source,
                         const std::vector<float>& residual) {
  const Layout& to = layer.output();
  const std::string before = what;
  layer.prepare(choice, size_t(draw(1, 3)), size_t(draw(1, 3)));
  what += ", " + layer.kernel() + ", " + std::to_string(layer.parts()) + " parts";
  Scratch scratch;
  layer.reserve(scratch);
  std::vector<float> out(size_t(to.floats()) + 64, 0.0f);
  for (int c = 0; c < to.channels; ++c)
    for (int y = 0; y < to.height; ++y)
      for (int i = 0; i < to.width * to.lanes; ++i) out[size_t(c * to.stride + to.row(y) + i)] = NAN;
  std::vector<size_t> tasks(layer.tasks());
  for (size_t i = 0; i < tasks.size(); ++i) tasks[i] = i;
  std::shuffle(tasks.begin(), tasks.end(), random_bits);
  for (const size_t task : tasks) layer.run(task, {source.data(), residual.empty() ? nullptr : residual.data(), out.data()}, scratch);
  compare(out, to, t.x.shape.images, 0, to.channels, [&](int n, int c, int y, int x) {
    const double sum = t.sums[((size_t(n) * to.channels + c) * to.height + y) * to.width + x];
    const double bias = layer.op().weights.bias ? layer.op().weights.bias[c] : 0;
    return activated(layer.op().activation, sum + bias + (residual.empty() ? 0 : double(t.residual.at(n, c, y, x))));
  }, kTolerance, 0);
  what = before;
}

static void check_lanes(const Case& t, const ConvKernels& kernels, int lanes) {
  const Plan& plan = t.drawn.plan;
  const Gaps gaps(plan);
  const Layout from = tensor_layout(plan.tensors[0], gaps, lanes), to = tensor_layout(plan.tensors[1], gaps, lanes);
  ConvLayer layer(plan.ops[0], plan.tensors[0], plan.tensors[1], from, to, kernels);
  std::vector<float> data = laid(t.x, from), residual;
  data.resize(data.size() + 64, 0.0f);
  data = split(layer, kernels, data, from);
  if (plan.tensors.size() == 3) residual = laid(t.residual, to);
  residual.resize(residual.empty() ? 0 : residual.size() + 64, 0.0f);
  for (const Choice& choice : choices_of(layer, kernels)) check_choice(t, layer, choice, data, residual);
}

static void check_set(const ConvKernels& kernels, const char* name, unsigned seed) {
  random_bits.seed(seed);
  Drawn drawn;
  draw_convolution(drawn);
  const int lanes = draw(0, 1) ? 16 : 1, images = lanes == 1 ? 1 : draw(1, 16);
  const TensorInfo &in = drawn.plan.tensors[0], &out = drawn.plan.tensors[1];
  const Window& w = drawn.plan.ops[0].window;
  Images x({images, int(in.channels), int(in.height), int(in.width)});
  Images residual({images, int(out.channels), int(out.height), int(out.width)});
  const std::vector<double> sums = sums_of(drawn, x);
  what = std::string(name) + " seed " + std::to_string(seed) + ": lanes " + std::to_string(lanes) + ", " + std::to_string(in.channels) + " x " +
         std::to_string(in.height) + " x " + std::to_string(in.width) + " to " + std::to_string(out.channels) + " x " +
         std::to_string(out.height) + " x " + std::to_string(out.width) + ", kernel " + std::to_string(w.kh) + " x " + std::to_string(w.kw);
  check_lanes({drawn, x, residual, sums}, kernels, lanes);
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const unsigned seed = unsigned(std::atoi(argv[1])), rounds = unsigned(std::atoi(argv[2]));
  const ConvKernels* kernels[] = {conv_portable(), conv_avx2(), conv_avx512()};
  const char* names[] = {"portable", "avx2", "avx512"};
  for (const int set : instruction_sets()) {
    if (!kernels[set]) continue;
    for (unsigned i = 0; i < rounds; ++i) check_set(*kernels[set], names[set], seed + i);
    std::printf("%s ", names[set]);
  }
  std::printf("agree\n");
  return 0;
}
