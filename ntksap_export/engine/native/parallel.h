// Where an executor's work is done in parallel: the engine's own pool, onnxruntime's, or a caller's.
#pragma once

#include <cstddef>

namespace ntksap {

struct Parallel {
  size_t lanes = 1;  // how many tasks may run at once; work is best dealt out in as many parts
  // Calls task(user, i) for every i < count, in any order and on any thread, and returns when all have returned. Tasks
  // may not wait for each other and throw nothing.
  virtual void run(size_t count, void (*task)(void* user, size_t index), void* user) = 0;

 protected:
  ~Parallel() = default;
};

// Everything on the calling thread.
struct Serial final : Parallel {
  void run(size_t count, void (*task)(void*, size_t), void* user) override {
    for (size_t i = 0; i < count; ++i) task(user, i);
  }
};

}  // namespace ntksap
