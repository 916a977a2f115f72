// Many short jobs on the engine's thread pool, each counted: every index must be called once, and what a job wrote must
// be there for its caller. Meant for the thread sanitizer (test_pool.py); prints the number of calls.
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "pool.h"

namespace {

struct Job {
  std::vector<int> calls;  // not atomic on purpose: the pool alone keeps them apart
};

void count(void* user, size_t index) { ++static_cast<Job*>(user)->calls[index]; }

// Jobs of 0 to 40 parts, now and then with a pause in which the workers fall asleep.
size_t stress(ntksap::Pool& pool, size_t jobs) {
  size_t called = 0;
  for (size_t number = 0; number < jobs; ++number) {
    Job job;
    job.calls.resize(number * 7 % 41);
    pool.run(job.calls.size(), count, &job);
    for (const int calls : job.calls) {
      if (calls != 1) {
        std::printf("job %zu called a part %d times\n", number, calls);
        std::exit(1);
      }
      ++called;
    }
    if (number % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return called;
}

}  // namespace

int main(int argc, char** argv) {
  const size_t jobs = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 1000;
  size_t called = 0;
  for (const size_t lanes : {1, 2, 3, 5}) {
    ntksap::Pool pool(lanes);
    called += stress(pool, jobs);
  }
  for (int i = 0; i < 100; ++i) ntksap::Pool short_lived(3);  // joined before, while or after its threads look for work
  std::printf("%zu\n", called);
}
