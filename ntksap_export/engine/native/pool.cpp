#include "pool.h"

#include <unistd.h>

namespace ntksap {

Pool::Pool(size_t wanted) : owner_(getpid()) {
  lanes = wanted < 1 ? 1 : wanted;
  threads_.reserve(lanes - 1);
  try {
    for (size_t i = 1; i < lanes; ++i) threads_.emplace_back([this] { work(); });
  } catch (...) {
    stop();
    throw;
  }
}

Pool::~Pool() { stop(); }

bool Pool::foreign() const { return getpid() != owner_; }

void Pool::stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Pool::called() {
  if (sleepers_ == 0) return;
  {
    std::lock_guard<std::mutex> lock(mutex_);
  }  // whoever is about to sleep sleeps, or has seen the ticket
  wake_.notify_all();
}

uint64_t Pool::wait_for_new(uint64_t seen) {
  const auto news = [&] { return stop_ || !same_job(ticket(), seen); };
  for (int spins = 0; spins < kSpins; ++spins) {
    if (news()) return ticket();
    pause(spins);
  }
  std::unique_lock<std::mutex> lock(mutex_);
  ++sleepers_;
  wake_.wait(lock, news);
  --sleepers_;
  return ticket();
}

void Pool::work() {
  uint64_t seen = ticket();
  while (!stop_) {
    help(seen);
    seen = wait_for_new(seen);
  }
}

}  // namespace ntksap
