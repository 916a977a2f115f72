// A plan as the engine reads it: tensors, operators in the order they run, weights where they lie in the caller's
// bytes. The format is written down in docs/engine-plan.md and written by engine/plan_bytes.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace ntksap {

struct TensorInfo {
  uint32_t channels, height, width;
  uint32_t rank;  // 4: (N, C, H, W); 2: (N, C), height = width = 1
};

enum class Kind : uint32_t {
  Conv = 1,
  Pool = 2,
  GlobalPool = 3,
  Add = 4,
  Mul = 5,
  Concat = 6,
  Act = 7,
  Flatten = 8,
};

enum class Act : uint32_t {
  None = 0,
  Relu = 1,
  Clip = 2,         // min(max(x, a), b)
  LeakyRelu = 3,    // x < 0 ? a * x : x
  HardSigmoid = 4,  // min(max(a * x + b, 0), 1)
  HardSwish = 5,    // x * min(max(x / 6 + 1 / 2, 0), 1)
  Sigmoid = 6,
  Silu = 7,  // x * sigmoid(x)
  Tanh = 8,
  Elu = 9,  // x < 0 ? a * (exp(x) - 1) : x
};

struct Activation {
  Act act = Act::None;
  float a = 0, b = 0;
};

// Mode of a pool: the largest value, the average of what lies inside, the average over the padded window.
enum class PoolMode : uint32_t { Max = 0, AverageInside = 1, AveragePadded = 2 };

struct Window {
  uint32_t kh = 1, kw = 1, sh = 1, sw = 1, dh = 1, dw = 1;
  uint32_t pad_top = 0, pad_left = 0, pad_bottom = 0,
           pad_right = 0;  // a convolution's bottom and right follow from its output
};

// A convolution's weights: rows x K, row o of output channel o, column k = (c * kh + ky) * kw + kx over all input
// channels.
struct Weights {
  bool sparse = false;
  const float* values = nullptr;     // dense: rows * K; sparse: nnz
  const uint32_t* counts = nullptr;  // sparse: entries of each row
  const uint16_t* deltas = nullptr;  // sparse: k_j = k_{j-1} + 1 + delta_j, k_{-1} = -1
  const float* bias = nullptr;       // rows, or none
  uint64_t rows = 0, columns = 0, nnz = 0;
};

struct Op {
  Kind kind;
  std::vector<uint32_t> inputs;  // tensor numbers; a convolution's second input is added before the activation
  uint32_t output;
  Window window;
  Activation activation;
  PoolMode mode = PoolMode::Max;
  Weights weights;
};

struct Plan {
  std::vector<TensorInfo> tensors;
  std::vector<uint32_t> inputs, outputs;
  std::vector<Op> ops;
};

// Reads a plan; returns why it is refused, or nothing. Weights point into `bytes`, which must outlive them and start at
// a multiple of 4. Never reads outside [bytes, bytes + size), whatever they hold.
std::string parse_plan(const void* bytes, uint64_t size, Plan& plan);

}  // namespace ntksap
