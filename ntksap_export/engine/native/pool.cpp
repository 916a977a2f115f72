#include "pool.h"

#include <unistd.h>

namespace ntksap {
namespace {

constexpr int kSpins = 4000;  // about 50 microseconds: longer than the gaps between the layers of a network

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

inline uint32_t generation_of(uint64_t ticket) { return uint32_t(ticket >> 32); }

}  // namespace

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

void Pool::open(size_t count, void (*task)(void*, size_t), void* user) {
  const uint32_t closed = generation_of(ticket_.load());
  task_ = task;
  user_ = user;
  count_ = count;
  done_ = 0;
  ticket_ = uint64_t(closed + 1) << 32;
  if (sleepers_ == 0) return;
  { std::lock_guard<std::mutex> lock(mutex_); }  // whoever is about to sleep sleeps, or has seen the ticket
  wake_.notify_all();
}

void Pool::run(size_t count, void (*task)(void*, size_t), void* user) {
  if (count <= 1 || threads_.empty() || count > UINT32_MAX) {
    for (size_t i = 0; i < count; ++i) task(user, i);
    return;
  }
  open(count, task, user);
  const uint32_t generation = generation_of(ticket_.load());
  help(generation);
  for (int spins = 0; done_ != count; ++spins) {
    if (spins < kSpins) pause();
    else std::this_thread::yield();
  }
  ticket_ = uint64_t(generation + 1) << 32;  // closed, before the next job's fields are written
}

void Pool::help(uint32_t generation) {
  for (uint64_t ticket = ticket_.load(); generation_of(ticket) == generation;) {
    const size_t index = uint32_t(ticket), count = count_.load();
    void (*task)(void*, size_t) = task_.load();
    void* user = user_.load();
    if (index >= count) return;
    // Fails, with the ticket of now, where another thread took the index or the fields read above are a later job's.
    if (!ticket_.compare_exchange_weak(ticket, ticket + 1)) continue;
    task(user, index);
    ++done_;
    ticket = ticket_.load();
  }
}

uint64_t Pool::wait_for_new(uint64_t seen) {
  const auto news = [&] { return stop_ || generation_of(ticket_) != generation_of(seen); };
  for (int spins = 0; spins < kSpins; ++spins) {
    if (news()) return ticket_;
    pause();
  }
  std::unique_lock<std::mutex> lock(mutex_);
  ++sleepers_;
  wake_.wait(lock, news);
  --sleepers_;
  return ticket_;
}

void Pool::work() {
  uint64_t seen = ticket_;
  while (!stop_) {
    const uint32_t generation = generation_of(seen);
    if (generation % 2 == 0) help(generation);
    seen = wait_for_new(seen);
  }
}

}  // namespace ntksap
