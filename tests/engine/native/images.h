// Images as a caller holds them, the same laid out as the kernels read them, and comparisons that name the first difference.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "layout.h"
#include "plan.h"

namespace check {

using ntksap::Act;
using ntksap::Activation;
using ntksap::Layout;

inline std::mt19937 random_bits;
inline std::string what;  // what is being checked, for the message

inline int draw(int low, int high) { return low + int(random_bits() % unsigned(high - low + 1)); }

inline float draw_value() { return float(int(random_bits() % 4001) - 2000) / 500.0f; }

[[noreturn]] inline void fail(const std::string& where, double expected, double actual) {
  std::printf("%s, %s: expected %.9g, got %.9g\n", what.c_str(), where.c_str(), expected, actual);
  std::exit(1);
}

inline bool close(double expected, double actual, double tolerance) {
  if (std::isnan(expected) && std::isnan(actual)) return true;
  return expected == actual || std::fabs(expected - actual) <= tolerance * (1 + std::fabs(expected));
}

struct Shape {
  int images, channels, height, width;
};

// (N, C, H, W), random.
struct Images {
  Shape shape;
  std::vector<float> data;
  explicit Images(Shape s) : shape(s), data(size_t(s.images) * s.channels * s.height * s.width) {
    for (float& x : data) x = draw_value();
  }
  int64_t size() const { return int64_t(shape.channels) * shape.height * shape.width; }
  float& at(int n, int c, int y, int x) {
    return data[((size_t(n) * shape.channels + c) * shape.height + y) * shape.width + x];
  }
};

inline int64_t place(const Layout& l, int n, int c, int y, int x) {
  return c * l.stride + l.row(y) + int64_t(x) * l.lanes + (l.lanes == 1 ? 0 : n);
}

// Written down float by float: what the kernels read.
inline std::vector<float> laid(Images& images, const Layout& layout) {
  std::vector<float> data(size_t(layout.floats()), 0.0f);
  for (int n = 0; n < images.shape.images; ++n)
    for (int c = 0; c < layout.channels; ++c)
      for (int y = 0; y < layout.height; ++y)
        for (int x = 0; x < layout.width; ++x) data[size_t(place(layout, n, c, y, x))] = images.at(n, c, y, x);
  return data;
}

typedef std::function<double(int n, int c, int y, int x)> Expected;

// The channels [c0, c1) of `data` hold what is expected and zeros around it; elsewhere `rest`. Lanes without an image may
// hold anything.
inline void compare(const std::vector<float>& data, const Layout& layout, int images, int c0, int c1, const Expected& expected,
                    double tolerance, double rest) {
  std::vector<double> truth(data.size(), rest);
  for (int64_t i = c0 * layout.stride; i < c1 * layout.stride; ++i) truth[size_t(i)] = 0;
  std::vector<char> free(data.size(), 0);
  for (int c = c0; c < c1; ++c)
    for (int y = 0; y < layout.height; ++y)
      for (int x = 0; x < layout.width; ++x)
        for (int n = 0; n < layout.lanes; ++n) {
          const size_t at = size_t(place(layout, n, c, y, x));
          if (n < images) truth[at] = expected(n, c, y, x);
          free[at] = n >= images;
        }
  for (size_t i = 0; i < data.size(); ++i)
    if (!free[i] && !close(truth[i], data[i], tolerance)) fail("float " + std::to_string(i), truth[i], data[i]);
}

inline double activated(const Activation& act, double x) {
  const double a = act.a, b = act.b;
  const auto clip = [](double v, double low, double high) { return v < low ? low : v > high ? high : v; };
  switch (act.act) {
    case Act::None: return x;
    case Act::Relu: return x < 0 ? 0 : x;
    case Act::Clip: return clip(x, a, b);
    case Act::LeakyRelu: return x < 0 ? a * x : x;
    case Act::HardSigmoid: return clip(a * x + b, 0, 1);
    case Act::HardSwish: return x * clip(x / 6 + 0.5, 0, 1);
    case Act::Sigmoid: return 1 / (1 + std::exp(-x));
    case Act::Silu: return x / (1 + std::exp(-x));
    case Act::Tanh: return std::tanh(x);
    case Act::Elu: return x < 0 ? a * std::expm1(x) : x;
  }
  return x;
}

inline Activation draw_activation() {
  Activation act;
  act.act = Act(draw(0, 9));
  act.a = float(draw(1, 4)) / 8, act.b = act.a + float(draw(0, 40)) / 8;
  return act;
}

// The sets of kernels that this CPU can run: 0 portable, 1 AVX2, 2 AVX-512.
inline std::vector<int> instruction_sets() {
  std::vector<int> sets = {0};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) sets.push_back(1);
  if (__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) sets.push_back(2);
#endif
  return sets;
}

}  // namespace check
