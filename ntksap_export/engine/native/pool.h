// A small persistent thread pool for callers that bring none (ntksap_run). Idle workers look for work for a moment, then
// sleep. The caller works too, and does everything itself if no worker comes.
//
// Threads do not survive fork(): in the child `foreign()` is true, and the pool must neither be run nor be destroyed
// there, but left behind and made anew (capi.cpp does).
#pragma once

#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "parallel.h"

namespace ntksap {

class Pool final : public Parallel {
 public:
  explicit Pool(size_t lanes);  // starts lanes - 1 threads; throws std::system_error where it cannot
  ~Pool();                      // no run may be under way
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  void run(size_t count, void (*task)(void*, size_t), void* user) override;  // one caller at a time
  bool foreign() const;

 private:
  void work();                         // a worker's life
  uint64_t wait_for_new(uint64_t seen);  // the ticket of another generation than `seen`'s
  void help(uint32_t generation);      // takes indices of that generation while there are any
  void open(size_t count, void (*task)(void*, size_t), void* user);
  void stop();

  // The job: the upper half of a ticket is its generation, the lower the next index to take. A worker that comes late
  // cannot take an index of a later job, because the ticket it would change has another generation by then. Generations
  // are even while a job is open and odd while its fields change.
  std::atomic<uint64_t> ticket_{uint64_t(1) << 32};
  std::atomic<size_t> count_{0}, done_{0};
  std::atomic<void (*)(void*, size_t)> task_{nullptr};
  std::atomic<void*> user_{nullptr};

  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
  const pid_t owner_;
  std::vector<std::thread> threads_;
};

}  // namespace ntksap
