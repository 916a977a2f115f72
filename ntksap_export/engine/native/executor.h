// Runs a plan. The executor holds packed weights and buffers of its own; one caller at a time may run it.
#pragma once

#include <memory>
#include <string>

#include "parallel.h"
#include "plan.h"

namespace ntksap {

class Executor {
 public:
  // The bytes that `plan` was read from must outlive the executor. Throws std::bad_alloc, std::length_error.
  static std::unique_ptr<Executor> create(const Plan& plan);
  virtual ~Executor() = default;

  // inputs[i], outputs[i]: (batch, C, H, W) float32, contiguous, of the plan's i-th input and output; batch >= 1.
  virtual void run(const float* const* inputs, float* const* outputs, int64_t batch, Parallel& parallel) = 0;

  // JSON: a list with an object per operator (kind, shape, density, kernel, us).
  virtual std::string describe() const = 0;
};

}  // namespace ntksap
