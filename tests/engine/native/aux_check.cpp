// Every kernel beside the convolutions against plain loops over (image, channel, row, column), for each instruction set of
// this CPU: random shapes, layouts and parts of the channels. Outputs begin as NaN, so that what a kernel forgets shows.
// Usage: aux_check SEED ROUNDS; prints the first difference and exits with 1, or the instruction sets checked.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "kernels_aux.h"

using namespace ntksap;

static std::mt19937 random_bits;
static std::string what;

static int draw(int low, int high) { return low + int(random_bits() % unsigned(high - low + 1)); }

static float draw_value() { return float(int(random_bits() % 4001) - 2000) / 500.0f; }

[[noreturn]] static void fail(const char* where, double expected, double actual) {
  std::printf("%s, %s: expected %.9g, got %.9g\n", what.c_str(), where, expected, actual);
  std::exit(1);
}

static void compare(const char* where, double expected, double actual) {
  if (std::isnan(expected) && std::isnan(actual)) return;
  if (expected == actual || std::fabs(expected - actual) <= 2e-6 * (1 + std::fabs(expected))) return;
  fail(where, expected, actual);
}

struct Shape {
  int images, channels, height, width;
};

// Images as the caller holds them, (N, C, H, W).
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

static Layout layout_of(Shape s, int lanes) { return make_layout(s.channels, s.height, s.width, draw(0, 3), lanes); }

static std::vector<float> room(const Layout& layout) { return std::vector<float>(size_t(layout.floats()), NAN); }

static int64_t place(const Layout& l, int n, int c, int y, int x) {
  return c * l.stride + l.row(y) + int64_t(x) * l.lanes + (l.lanes == 1 ? 0 : n);
}

// The layout written down float by float: what the kernels read.
static std::vector<float> laid(Images& images, const Layout& layout) {
  std::vector<float> data(size_t(layout.floats()), 0.0f);
  for (int n = 0; n < images.shape.images; ++n)
    for (int c = 0; c < layout.channels; ++c)
      for (int y = 0; y < layout.height; ++y)
        for (int x = 0; x < layout.width; ++x) data[size_t(place(layout, n, c, y, x))] = images.at(n, c, y, x);
  return data;
}

typedef std::function<double(int n, int c, int y, int x)> Expected;

// The channels [c0, c1) of `data` hold what is expected and zeros around it; all else is as it began, NaN.
static void check(const std::vector<float>& data, const Layout& layout, int images, int c0, int c1, const Expected& expected) {
  std::vector<double> truth(data.size(), NAN);
  for (int64_t i = c0 * layout.stride; i < c1 * layout.stride; ++i) truth[size_t(i)] = 0;
  std::vector<char> free(data.size(), 0);  // lanes without an image may hold anything
  for (int c = c0; c < c1; ++c)
    for (int y = 0; y < layout.height; ++y)
      for (int x = 0; x < layout.width; ++x)
        for (int n = 0; n < layout.lanes; ++n) {
          const size_t at = size_t(place(layout, n, c, y, x));
          if (n < images) truth[at] = expected(n, c, y, x);
          free[at] = n >= images;
        }
  for (size_t i = 0; i < data.size(); ++i)
    if (!free[i]) compare(("float " + std::to_string(i)).c_str(), truth[i], data[i]);
}

static double activated(const Activation& act, double x) {
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

static Activation draw_activation() {
  Activation act;
  act.act = Act(draw(0, 9));
  act.a = float(draw(1, 4)) / 8, act.b = act.a + float(draw(0, 40)) / 8;
  return act;
}

struct Case {
  const AuxKernels& kernels;
  int lanes;
  Shape shape;
  int c0, c1;
};

static void check_moves(const Case& t) {
  Images images(t.shape);
  const Layout layout = layout_of(t.shape, t.lanes), other = layout_of(t.shape, t.lanes);
  std::vector<float> data = room(layout);
  what += " load";
  t.kernels.load(images.data.data(), images.size(), t.shape.images, data.data(), layout, t.c0, t.c1);
  const int lanes = t.lanes;  // without an image: zero, so all lanes are compared
  check(data, layout, lanes, t.c0, t.c1, [&](int n, int c, int y, int x) { return n < t.shape.images ? images.at(n, c, y, x) : 0; });
  what += " store";
  std::vector<float> stored(images.data.size(), NAN);
  t.kernels.store(laid(images, layout).data(), layout, stored.data(), images.size(), t.shape.images, t.c0, t.c1);
  const int64_t plane = int64_t(t.shape.height) * t.shape.width;
  for (size_t i = 0; i < stored.size(); ++i) {
    const int c = int(int64_t(i) % images.size() / plane);
    compare("a stored float", c >= t.c0 && c < t.c1 ? images.data[i] : NAN, stored[i]);
  }
  what += " copy";
  const int at = draw(0, 3);
  const Layout joined = make_layout(t.shape.channels + at + 1, t.shape.height, t.shape.width, draw(0, 2), t.lanes);
  data = room(joined);
  t.kernels.copy(laid(images, other).data(), other, data.data(), joined, at, t.c0, t.c1);
  check(data, joined, t.shape.images, t.c0 + at, t.c1 + at, [&](int n, int c, int y, int x) { return images.at(n, c - at, y, x); });
  what += " flatten";
  const Layout flat = make_layout(int(images.size()), 1, 1, 1, t.lanes);
  data = room(flat);
  t.kernels.flatten(laid(images, layout).data(), layout, data.data(), flat, t.c0, t.c1);
  const int area = int(plane), width = t.shape.width;
  check(data, flat, t.shape.images, t.c0 * area, t.c1 * area,
        [&](int n, int k, int, int) { return images.at(n, k / area, k % area / width, k % width); });
  what += " clear_margins";
  data = laid(images, layout);
  std::vector<float> spoilt = room(layout);
  for (int n = 0; n < t.lanes; ++n)
    for (int c = 0; c < t.shape.channels; ++c)
      for (int y = 0; y < t.shape.height; ++y)
        for (int x = 0; x < t.shape.width; ++x) spoilt[size_t(place(layout, n, c, y, x))] = data[size_t(place(layout, n, c, y, x))];
  t.kernels.clear_margins(spoilt.data(), layout, 0, t.shape.channels);
  check(spoilt, layout, t.shape.images, 0, t.shape.channels, [&](int n, int c, int y, int x) { return images.at(n, c, y, x); });
}

static void check_interleave(const Case& t) {
  if (t.lanes == 1) return;
  what += " interleave";
  Images images(t.shape);
  const Layout from = layout_of(t.shape, 1), to = layout_of(t.shape, 16);
  std::vector<float> data = room(to);
  for (int n = 0; n < t.shape.images; ++n) {
    Images one({1, t.shape.channels, t.shape.height, t.shape.width});
    for (int64_t i = 0; i < one.size(); ++i) one.data[size_t(i)] = images.data[size_t(n * one.size() + i)];
    t.kernels.interleave(laid(one, from).data(), from, data.data(), to, n, t.c0, t.c1);
  }
  check(data, to, 16, t.c0, t.c1, [&](int n, int c, int y, int x) { return n < t.shape.images ? images.at(n, c, y, x) : 0; });
}

static void check_arithmetic(const Case& t) {
  Images a(t.shape), b(t.shape), s({t.shape.images, t.shape.channels, 1, 1});
  if (draw(0, 3) == 0) a.data[0] = NAN, s.data[size_t(t.shape.channels) - 1] = INFINITY;
  const Activation act = draw_activation();
  const Layout la = layout_of(t.shape, t.lanes), lb = draw(0, 1) ? la : layout_of(t.shape, t.lanes);
  const Layout to = draw(0, 1) ? la : layout_of(t.shape, t.lanes), ls = layout_of(s.shape, t.lanes);
  what += " act " + std::to_string(int(act.act));
  const std::string before = what;
  const auto result = [&](const char* name, const std::function<void(float*)>& run, const Expected& expected) {
    what = before + name;
    std::vector<float> data = room(to);
    run(data.data());
    check(data, to, t.shape.images, t.c0, t.c1, [&](int n, int c, int y, int x) { return activated(act, expected(n, c, y, x)); });
  };
  const std::vector<float> da = laid(a, la), db = laid(b, lb), ds = laid(s, ls);
  result(" add", [&](float* out) { t.kernels.add(da.data(), la, db.data(), lb, out, to, act, t.c0, t.c1); },
         [&](int n, int c, int y, int x) { return a.at(n, c, y, x) + b.at(n, c, y, x); });
  result(" multiply", [&](float* out) { t.kernels.multiply(da.data(), la, db.data(), lb, out, to, act, t.c0, t.c1); },
         [&](int n, int c, int y, int x) { return a.at(n, c, y, x) * b.at(n, c, y, x); });
  result(" scale", [&](float* out) { t.kernels.multiply(da.data(), la, ds.data(), ls, out, to, act, t.c0, t.c1); },
         [&](int n, int c, int y, int x) { return a.at(n, c, y, x) * s.at(n, c, 0, 0); });
  result(" activate", [&](float* out) { t.kernels.activate(da.data(), la, out, to, act, t.c0, t.c1); },
         [&](int n, int c, int y, int x) { return a.at(n, c, y, x); });
}

static Window draw_window(Shape s) {
  Window w;
  w.kh = unsigned(draw(1, 5)), w.kw = unsigned(draw(1, 5)), w.sh = unsigned(draw(1, 4)), w.sw = unsigned(draw(1, 4));
  w.dh = unsigned(draw(1, 3)), w.dw = unsigned(draw(1, 3));
  w.pad_top = unsigned(draw(0, int(w.kh) - 1)), w.pad_bottom = unsigned(draw(0, int(w.kh) - 1));
  w.pad_left = unsigned(draw(0, int(w.kw) - 1)), w.pad_right = unsigned(draw(0, int(w.kw) - 1));
  if ((w.kh - 1) * w.dh + 1 > s.height + w.pad_top + w.pad_bottom) w.kh = w.dh = 1, w.pad_top = w.pad_bottom = 0;
  if ((w.kw - 1) * w.dw + 1 > s.width + w.pad_left + w.pad_right) w.kw = w.dw = 1, w.pad_left = w.pad_right = 0;
  return w;
}

static double pooled(Images& a, const Window& w, PoolMode mode, int n, int c, int y, int x) {
  double sum = 0, largest = -INFINITY;
  int inside = 0, padded = 0;
  for (int ky = 0; ky < int(w.kh); ++ky)
    for (int kx = 0; kx < int(w.kw); ++kx) {
      const int iy = y * int(w.sh) + ky * int(w.dh) - int(w.pad_top), ix = x * int(w.sw) + kx * int(w.dw) - int(w.pad_left);
      padded += iy < a.shape.height + int(w.pad_bottom) && ix < a.shape.width + int(w.pad_right);
      if (iy < 0 || ix < 0 || iy >= a.shape.height || ix >= a.shape.width) continue;
      const double value = a.at(n, c, iy, ix);
      inside += 1, sum += value;
      largest = std::isnan(largest) || largest > value ? largest : value;
    }
  if (mode == PoolMode::Max) return largest;
  const int count = mode == PoolMode::AveragePadded ? padded : inside;
  return sum / (count ? count : 1);
}

static void check_pools(const Case& t) {
  Images a(t.shape);
  if (draw(0, 3) == 0) a.data[a.data.size() / 2] = NAN;
  const Window w = draw_window(t.shape);
  const PoolMode mode = PoolMode(draw(0, 2));
  const Layout from = layout_of(t.shape, t.lanes);
  const int up_y = draw(0, 1) ? int(w.sh) - 1 : 0, up_x = draw(0, 1) ? int(w.sw) - 1 : 0;  // ceil_mode
  const int height = (t.shape.height + int(w.pad_top + w.pad_bottom) - int((w.kh - 1) * w.dh) - 1 + up_y) / int(w.sh) + 1;
  const int width = (t.shape.width + int(w.pad_left + w.pad_right) - int((w.kw - 1) * w.dw) - 1 + up_x) / int(w.sw) + 1;
  const Layout to = layout_of({t.shape.images, t.shape.channels, height, width}, t.lanes);
  const std::string before = what;
  what = before + " pool " + std::to_string(int(mode)) + " kernel " + std::to_string(w.kh) + "x" + std::to_string(w.kw) + " stride " +
         std::to_string(w.sh) + "x" + std::to_string(w.sw) + " dilation " + std::to_string(w.dh) + "x" + std::to_string(w.dw);
  std::vector<float> data = room(to);
  t.kernels.pool(laid(a, from).data(), from, data.data(), to, w, mode, t.c0, t.c1);
  check(data, to, t.shape.images, t.c0, t.c1, [&](int n, int c, int y, int x) { return pooled(a, w, mode, n, c, y, x); });
  what = before + " global pool " + std::to_string(int(mode));
  const Layout point = make_layout(t.shape.channels, 1, 1, 0, t.lanes);
  data = room(point);
  t.kernels.global_pool(laid(a, from).data(), from, data.data(), point, mode, t.c0, t.c1);
  Window all;
  all.kh = unsigned(t.shape.height), all.kw = unsigned(t.shape.width);
  check(data, point, t.shape.images, t.c0, t.c1, [&](int n, int c, int, int) { return pooled(a, all, mode, n, c, 0, 0); });
}

static void check_set(const AuxKernels& kernels, const char* name, unsigned seed) {
  random_bits.seed(seed);
  const int lanes = draw(0, 1) ? 16 : 1, sides[] = {1, 1, 2, 3, 7, 8, 14, 16, 17, 31, 33, 56, 150, 300};
  int height = sides[draw(0, 13)], width = sides[draw(0, 13)];
  if (height > 56) height = 3;
  if (draw(0, 5) == 0) height = width = 1;
  const Shape shape{lanes == 1 ? 1 : draw(1, 16), draw(1, height == 1 && width == 1 ? 70 : 5), height, width};
  const int c0 = draw(0, shape.channels - 1), c1 = draw(c0 + 1, shape.channels);
  const Case t{kernels, lanes, shape, c0, c1};
  const std::string before = std::string(name) + " seed " + std::to_string(seed) + " lanes " + std::to_string(lanes) + " images " +
                             std::to_string(shape.images) + " channels " + std::to_string(c0) + ".." + std::to_string(c1) + " of " +
                             std::to_string(shape.channels) + " plane " + std::to_string(height) + "x" + std::to_string(width);
  for (void (*one)(const Case&) : {check_moves, check_interleave, check_arithmetic, check_pools}) {
    what = before;
    one(t);
  }
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const unsigned seed = unsigned(std::atoi(argv[1])), rounds = unsigned(std::atoi(argv[2]));
  std::vector<std::pair<const char*, const AuxKernels*>> sets = {{"portable", aux_portable()}};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && aux_avx2()) sets.push_back({"avx2", aux_avx2()});
  if (__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && aux_avx512())
    sets.push_back({"avx512", aux_avx512()});
#endif
  for (const auto& set : sets) {
    for (unsigned i = 0; i < rounds; ++i) check_set(*set.second, set.first, seed + i);
    std::printf("%s ", set.first);
  }
  std::printf("agree\n");
  return 0;
}
