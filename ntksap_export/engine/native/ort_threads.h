// A session's own threads as a Parallel. onnxruntime does not say how many there are, so the first runs count them.
#pragma once

#include "crew.h"
#include "ort_abi.h"

namespace ntksap {

// What is known of a session's threads; one for each kernel, guarded by the kernel's mutex.
struct Lanes {
  size_t count = 1;
  int probes = 0;  // done so far: a busy machine may have kept a thread from coming, so the largest of a few counts
};

// onnxruntime's threads come once for a whole plan and stay until it is done: to call them for each layer takes longer
// (about 20 us) than many a layer does.
class SessionThreads final : public Crew {
 public:
  SessionThreads(const OrtApi* api, const OrtKernelContext* context, Lanes& lanes);

  // Calls job(user) on one of the session's threads; what it runs on this object the others work on too. Exceptions
  // come out.
  void lead(void (*job)(void* user), void* user);

 private:
  struct Gathering;
  static void attend(void* gathering, size_t);
  bool loop(size_t count, void (*task)(void*, size_t), void* user);
  void probe(Lanes& lanes);

  const OrtApi* api_;
  const OrtKernelContext* context_;
};

}  // namespace ntksap
