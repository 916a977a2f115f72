#include "ort_threads.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <exception>
#include <mutex>
#include <thread>

namespace ntksap {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kProbes = 3;
constexpr std::chrono::microseconds kPatience(300);  // for a sleeping thread to come, after the last one came
constexpr size_t kMostThreads = 256;

// Every task of the probe notes its thread and holds it until all that are expected have come or no more seem to come.
struct Census {
  size_t expected;
  std::mutex mutex;
  std::array<std::thread::id, kMostThreads> seen;
  size_t count = 0;
  Clock::time_point latest = Clock::now();
  bool over = false;

  bool closed() {
    const std::lock_guard<std::mutex> lock(mutex);
    over = over || count >= expected || Clock::now() - latest > kPatience;
    return over;
  }

  void note() {
    const std::lock_guard<std::mutex> lock(mutex);
    const std::thread::id self = std::this_thread::get_id();
    if (count == expected || std::find(seen.begin(), seen.begin() + count, self) != seen.begin() + count) return;
    seen[count++] = self;
    latest = Clock::now();
  }
};

void stand_and_be_counted(void* user, size_t) {
  Census& census = *static_cast<Census*>(user);
  census.note();
  while (!census.closed()) std::this_thread::yield();
}

}  // namespace

SessionThreads::SessionThreads(const OrtApi* api, const OrtKernelContext* context, Lanes& known)
    : api_(api), context_(context) {
  if (known.probes < kProbes) probe(known);
  lanes = known.count;
}

void SessionThreads::probe(Lanes& known) {
  ++known.probes;
  Census census;
  census.expected = std::min<size_t>(std::max(1u, std::thread::hardware_concurrency()), kMostThreads);
  if (census.expected == 1 || known.count == census.expected) return;
  if (!loop(census.expected, stand_and_be_counted, &census)) return;
  known.count = std::max(known.count, census.count);
}

bool SessionThreads::loop(size_t count, void (*task)(void*, size_t), void* user) {
  OrtStatus* status = ort::KernelContext_ParallelFor(api_)(context_, task, count, 0, user);
  if (status) ort::ReleaseStatus(api_)(status);
  return status == nullptr;
}

// The first thread that comes leads, on whichever task; the others help while it is at work. A task that comes after
// that, or on the leader's own thread, finds everything done.
struct SessionThreads::Gathering {
  SessionThreads* crew;
  void (*job)(void*);
  void* user;
  std::atomic<bool> led{false}, over{false};
  std::exception_ptr failure;
};

void SessionThreads::attend(void* shared, size_t) {
  Gathering& all = *static_cast<Gathering*>(shared);
  if (!all.led.exchange(true)) {
    try {
      all.job(all.user);
    } catch (...) {
      all.failure = std::current_exception();
    }
    all.over = true;
    return;
  }
  while (!all.over) {
    const uint64_t seen = all.crew->ticket();
    all.crew->help(seen);
    for (int spins = 0; !all.over && same_job(all.crew->ticket(), seen); ++spins) pause(spins);
  }
}

void SessionThreads::lead(void (*job)(void*), void* user) {
  Gathering all{this, job, user, {false}, {false}, nullptr};
  // Refused, if at all, before anything is called: then the job runs here, alone.
  if (lanes <= 1 || !loop(lanes, attend, &all)) {
    lanes = 1;
    return job(user);
  }
  if (all.failure) std::rethrow_exception(all.failure);
}

}  // namespace ntksap
