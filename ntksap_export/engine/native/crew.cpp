#include "crew.h"

#include <thread>

namespace ntksap {
namespace {

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

inline uint32_t generation_of(uint64_t ticket) { return uint32_t(ticket >> 32); }

}  // namespace

void Crew::pause(int spins) {
  if (spins < kSpins)
    relax();
  else
    std::this_thread::yield();
}

void Crew::open(size_t count, void (*task)(void*, size_t), void* user) {
  const uint32_t closed = generation_of(ticket_.load());
  task_ = task;
  user_ = user;
  count_ = count;
  done_ = 0;
  ticket_ = uint64_t(closed + 1) << 32;
  called();
}

void Crew::run(size_t count, void (*task)(void*, size_t), void* user) {
  if (count <= 1 || lanes <= 1 || count > UINT32_MAX) {
    for (size_t i = 0; i < count; ++i) task(user, i);
    return;
  }
  open(count, task, user);
  const uint64_t opened = ticket_;
  help(opened);
  for (int spins = 0; done_ != count; ++spins) pause(spins);
  ticket_ = uint64_t(generation_of(opened) + 1) << 32;  // closed, before the next job's fields are written
}

void Crew::help(uint64_t of) {
  const uint32_t generation = generation_of(of);
  if (generation % 2) return;
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

}  // namespace ntksap
