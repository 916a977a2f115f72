// What the FMA units of this CPU can do at best: independent multiply-adds of registers, nothing read from memory.
//
//   g++ -O3 -march=native -pthread fma_peak.cpp && ./a.out 2        GFLOP/s of 2 threads, the best of some tries
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#if defined(__AVX512F__)
constexpr int kFloats = 16;
#elif defined(__AVX__)
constexpr int kFloats = 8;
#else
constexpr int kFloats = 4;
#endif
typedef float Vector __attribute__((vector_size(kFloats * sizeof(float))));

constexpr int kSums = 10;  // at a latency of 4 cycles and two a cycle, eight in flight would do
constexpr long kRounds = 20000000;

static void work(float* out, float seed) {
  const Vector f = Vector{} + 0.999f, t = Vector{} + seed;
  Vector a = t, b = t + 1, c = t + 2, d = t + 3, e = t + 4, g = t + 5, h = t + 6, i = t + 7, j = t + 8, k = t + 9;
  for (long r = 0; r < kRounds; ++r) {
    a = a * f + t, b = b * f + t, c = c * f + t, d = d * f + t, e = e * f + t;
    g = g * f + t, h = h * f + t, i = i * f + t, j = j * f + t, k = k * f + t;
  }
  const Vector all = a + b + c + d + e + g + h + i + j + k;
  *out = all[0];
}

int main(int argc, char** argv) {
  const int count = argc > 1 ? std::atoi(argv[1]) : 1;
  double best = 0;
  for (int tries = 0; tries < 25; ++tries) {
    std::vector<float> outs(size_t(count) * 64);
    std::vector<std::thread> threads;
    const auto begin = std::chrono::steady_clock::now();
    for (int t = 1; t < count; ++t) threads.emplace_back(work, &outs[size_t(t) * 64], 0.5f);
    work(&outs[0], 0.5f);
    for (std::thread& thread : threads) thread.join();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const double rate = 2e-9 * kFloats * kSums * kRounds * count / seconds;
    if (rate > best) best = rate;
  }
  std::printf("%.1f\n", best);
}
