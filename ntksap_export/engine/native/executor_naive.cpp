// A plan run by plain loops, one image at a time: stands in until the executor with kernels takes its place.
#include <cmath>
#include <limits>

#include "executor.h"
#include "plan_reader.h"

namespace ntksap {
namespace {

struct Entry {
  uint64_t column;
  float value;
};

struct Step {
  Op op;
  std::vector<std::vector<Entry>> rows;
  std::vector<float> bias;
};

Step make_step(const Op& op) {
  Step step{op, {}, {}};
  const Weights& w = op.weights;
  step.rows.resize(w.rows);
  uint64_t at = 0;
  for (uint64_t row = 0; row < w.rows; ++row) {
    const uint64_t end = at + (w.sparse ? w.counts[row] : w.columns);
    uint64_t column = 0;
    for (; at < end; ++at, ++column) {
      if (w.sparse) column += w.deltas[at];
      step.rows[row].push_back({column, w.values[at]});
    }
  }
  if (w.bias) step.bias.assign(w.bias, w.bias + w.rows);
  step.op.weights = Weights{};
  return step;
}

float activate(const Activation& f, float x) {
  switch (f.act) {
    case Act::None: return x;
    case Act::Relu: return x < 0 ? 0 : x;
    case Act::Clip: return std::fmin(std::fmax(x, f.a), f.b);
    case Act::LeakyRelu: return x < 0 ? f.a * x : x;
    case Act::HardSigmoid: return std::fmin(std::fmax(f.a * x + f.b, 0.f), 1.f);
    case Act::HardSwish: return x * std::fmin(std::fmax(x / 6 + 0.5f, 0.f), 1.f);
    case Act::Sigmoid: return 1 / (1 + std::exp(-x));
    case Act::Silu: return x / (1 + std::exp(-x));
    case Act::Tanh: return std::tanh(x);
    case Act::Elu: return x < 0 ? f.a * (std::exp(x) - 1) : x;
  }
  return x;
}

class Naive final : public Executor {
 public:
  explicit Naive(const Plan& plan) : tensors_(plan.tensors), inputs_(plan.inputs), outputs_(plan.outputs) {
    for (const Op& op : plan.ops) steps_.push_back(make_step(op));
    for (const TensorInfo& t : tensors_) buffers_.emplace_back(size(t));
  }

  void run(const float* const* inputs, float* const* outputs, int64_t batch, Parallel& parallel) override {
    for (int64_t n = 0; n < batch; ++n) {
      for (size_t i = 0; i < inputs_.size(); ++i) {
        std::vector<float>& to = buffers_[inputs_[i]];
        to.assign(inputs[i] + n * to.size(), inputs[i] + (n + 1) * to.size());
      }
      for (const Step& step : steps_) run_step(step, parallel);
      for (size_t i = 0; i < outputs_.size(); ++i) {
        const std::vector<float>& from = buffers_[outputs_[i]];
        std::memcpy(outputs[i] + n * from.size(), from.data(), from.size() * 4);
      }
    }
  }

  std::string describe() const override {
    std::string out = "[";
    for (const Step& step : steps_) {
      const TensorInfo& t = tensors_[step.op.output];
      out += (out.size() > 1 ? ", " : "") + std::string("{\"kind\": \"") + kind_name(step.op.kind) + "\", \"shape\": [" + text(t.channels) + ", " +
             text(t.height) + ", " + text(t.width) + "], \"kernel\": \"naive\"}";
    }
    return out + "]";
  }

 private:
  static uint64_t size(const TensorInfo& t) { return uint64_t(t.channels) * t.height * t.width; }

  struct Job {
    Naive* self;
    const Step* step;
  };

  void run_step(const Step& step, Parallel& parallel) {
    if (step.op.kind == Kind::Concat || step.op.kind == Kind::Flatten) return copy(step);
    Job job{this, &step};
    parallel.run(tensors_[step.op.output].channels, [](void* user, size_t c) {
      const Job& j = *static_cast<Job*>(user);
      j.self->channel(*j.step, c);
    }, &job);
  }

  void copy(const Step& step) {
    std::vector<float>& out = buffers_[step.op.output];
    out.clear();
    for (const uint32_t id : step.op.inputs) out.insert(out.end(), buffers_[id].begin(), buffers_[id].end());
  }

  void channel(const Step& step, size_t c) {
    const TensorInfo& out = tensors_[step.op.output];
    for (uint32_t y = 0; y < out.height; ++y)
      for (uint32_t x = 0; x < out.width; ++x) {
        const size_t at = (c * out.height + y) * out.width + x;
        buffers_[step.op.output][at] = activate(step.op.activation, value(step, c, y, x, at));
      }
  }

  float value(const Step& step, size_t c, uint32_t y, uint32_t x, size_t at) const {
    const Op& op = step.op;
    const std::vector<float>& a = buffers_[op.inputs[0]];
    const std::vector<float>& b = buffers_[op.inputs.back()];
    switch (op.kind) {
      case Kind::Conv: return convolve(step, c, y, x) + (op.inputs.size() == 2 ? b[at] : 0);
      case Kind::Add: return a[at] + b[at];
      case Kind::Mul: return a[at] * (b.size() == a.size() ? b[at] : b[c]);
      case Kind::Pool: return pool(op, c, y, x);
      case Kind::GlobalPool: {
        Op whole = op;
        whole.window.kh = tensors_[op.inputs[0]].height;
        whole.window.kw = tensors_[op.inputs[0]].width;
        return pool(whole, c, 0, 0);
      }
      default: return a[at];
    }
  }

  float convolve(const Step& step, size_t c, uint32_t y, uint32_t x) const {
    const Window& w = step.op.window;
    const TensorInfo& in = tensors_[step.op.inputs[0]];
    double sum = step.bias.empty() ? 0 : step.bias[c];
    for (const Entry& e : step.rows[c]) {
      const int64_t iy = int64_t(y) * w.sh - w.pad_top + int64_t(e.column / w.kw % w.kh) * w.dh;
      const int64_t ix = int64_t(x) * w.sw - w.pad_left + int64_t(e.column % w.kw) * w.dw;
      if (iy < 0 || ix < 0 || iy >= in.height || ix >= in.width) continue;
      const uint64_t from = e.column / w.kw / w.kh;
      sum += double(e.value) * buffers_[step.op.inputs[0]][(from * in.height + iy) * in.width + ix];
    }
    return float(sum);
  }

  float pool(const Op& op, size_t c, uint32_t y, uint32_t x) const {
    const Window& w = op.window;
    const TensorInfo& in = tensors_[op.inputs[0]];
    double sum = 0, inside = 0, padded = 0;
    float most = -std::numeric_limits<float>::infinity();
    for (uint32_t i = 0; i < w.kh; ++i)
      for (uint32_t j = 0; j < w.kw; ++j) {
        const int64_t iy = int64_t(y) * w.sh - w.pad_top + int64_t(i) * w.dh, ix = int64_t(x) * w.sw - w.pad_left + int64_t(j) * w.dw;
        if (iy < int64_t(in.height) + w.pad_bottom && ix < int64_t(in.width) + w.pad_right) padded += 1;
        if (iy < 0 || ix < 0 || iy >= in.height || ix >= in.width) continue;
        const float v = buffers_[op.inputs[0]][(c * in.height + iy) * in.width + ix];
        inside += 1;
        sum += v;
        if (v > most) most = v;
      }
    return op.mode == PoolMode::Max ? most : float(sum / (op.mode == PoolMode::AverageInside ? inside : padded));
  }

  std::vector<TensorInfo> tensors_;
  std::vector<uint32_t> inputs_, outputs_;
  std::vector<Step> steps_;
  std::vector<std::vector<float>> buffers_;
};

}  // namespace

std::unique_ptr<Executor> Executor::create(const Plan& plan) { return std::make_unique<Naive>(plan); }

}  // namespace ntksap
