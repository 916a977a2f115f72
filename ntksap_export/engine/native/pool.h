// A small persistent thread pool for callers that bring none (ntksap_run). Idle workers look for work for a moment,
// then sleep. The caller works too, and does everything itself if no worker comes.
//
// Threads do not survive fork(): in the child `foreign()` is true, and the pool must neither be run nor be destroyed
// there, but left behind and made anew (capi.cpp does).
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "crew.h"

namespace ntksap {

class Pool final : public Crew {  // run(): one caller at a time
 public:
  explicit Pool(size_t lanes);  // starts lanes - 1 threads; throws std::system_error where it cannot
  ~Pool();                      // no run may be under way
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  bool foreign() const;

 private:
  void called() override;
  void work();                           // a worker's life
  uint64_t wait_for_new(uint64_t seen);  // the ticket of another job than `seen`'s
  void stop();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
  const pid_t owner_;
  std::vector<std::thread> threads_;
};

}  // namespace ntksap
