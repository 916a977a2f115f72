// Threads that work on one loop after the other. One of them leads: it opens a job, works on it like the others, and
// waits only for what another has already taken. Whoever comes late, or never, is not waited for.
#pragma once

#include <atomic>
#include <cstdint>

#include "parallel.h"

namespace ntksap {

class Crew : public Parallel {
 public:
  void run(size_t count, void (*task)(void*, size_t), void* user) override;  // the leader

 protected:
  Crew() = default;
  ~Crew() = default;

  virtual void called() {}     // a job is open: wakes whoever sleeps
  void help(uint64_t ticket);  // takes indices of the ticket's job while there are any
  uint64_t ticket() const { return ticket_; }
  static bool same_job(uint64_t a, uint64_t b) { return a >> 32 == b >> 32; }
  static void pause(int spins);  // between two looks at a ticket: gives the core away when that takes long

 private:
  void open(size_t count, void (*task)(void*, size_t), void* user);

  // The job: the upper half of a ticket is its generation, the lower the next index to take. A helper that comes late
  // cannot take an index of a later job, because the ticket it would change has another generation by then. Generations
  // are even while a job is open and odd while its fields change.
  std::atomic<uint64_t> ticket_{uint64_t(1) << 32};
  std::atomic<size_t> count_{0}, done_{0};
  std::atomic<void (*)(void*, size_t)> task_{nullptr};
  std::atomic<void*> user_{nullptr};
};

constexpr int kSpins = 4000;  // about 50 microseconds: longer than the gaps between the layers of a network

}  // namespace ntksap
