// A session's own threads as a Parallel. onnxruntime does not say how many there are, so the first runs count them.
#pragma once

#include "ort_abi.h"
#include "parallel.h"

namespace ntksap {

// What is known of a session's threads; one for each kernel, guarded by the kernel's mutex.
struct Lanes {
  size_t count = 1;
  int probes = 0;  // done so far: a busy machine may have kept a thread from coming, so the largest of a few counts
};

class SessionThreads final : public Parallel {
 public:
  SessionThreads(const OrtApi* api, const OrtKernelContext* context, Lanes& lanes);

  // onnxruntime refuses a loop before it has called anything, if at all; it then goes on on the calling thread.
  void run(size_t count, void (*task)(void*, size_t), void* user) override;

 private:
  bool loop(size_t count, void (*task)(void*, size_t), void* user);
  void probe(Lanes& lanes);

  const OrtApi* api_;
  const OrtKernelContext* context_;
};

}  // namespace ntksap
