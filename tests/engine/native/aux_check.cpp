// Every kernel beside the convolutions against plain loops over (image, channel, row, column), for each instruction set of
// this CPU: random shapes, layouts and parts of the channels. Outputs begin as NaN, so that what a kernel forgets shows.
// Usage: aux_check SEED ROUNDS; prints the first difference and exits with 1, or the instruction sets checked.
#include "images.h"
#include "kernels_aux.h"

using namespace ntksap;
using namespace check;

constexpr double kTolerance = 2e-6;

static Layout layout_of(Shape s, int lanes) { return make_layout(s.channels, s.height, s.width, draw(0, 3), lanes); }

static std::vector<float> room(const Layout& layout) { return std::vector<float>(size_t(layout.floats()), NAN); }

// What a kernel wrote of the channels [c0, c1), all others left as they were.
static void verify(const std::vector<float>& data, const Layout& layout, int images, int c0, int c1, const Expected& expected) {
  compare(data, layout, images, c0, c1, expected, kTolerance, NAN);
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
  verify(data, layout, lanes, t.c0, t.c1, [&](int n, int c, int y, int x) { return n < t.shape.images ? images.at(n, c, y, x) : 0; });
  what += " store";
  std::vector<float> stored(images.data.size(), NAN);
  t.kernels.store(laid(images, layout).data(), layout, stored.data(), images.size(), t.shape.images, t.c0, t.c1);
  const int64_t plane = int64_t(t.shape.height) * t.shape.width;
  for (size_t i = 0; i < stored.size(); ++i) {
    const int c = int(int64_t(i) % images.size() / plane);
    const double expected = c >= t.c0 && c < t.c1 ? images.data[i] : NAN;
    if (!close(expected, stored[i], 0)) fail("stored float " + std::to_string(i), expected, stored[i]);
  }
  what += " copy";
  const int at = draw(0, 3);
  const Layout joined = make_layout(t.shape.channels + at + 1, t.shape.height, t.shape.width, draw(0, 2), t.lanes);
  data = room(joined);
  t.kernels.copy(laid(images, other).data(), other, data.data(), joined, at, t.c0, t.c1);
  verify(data, joined, t.shape.images, t.c0 + at, t.c1 + at, [&](int n, int c, int y, int x) { return images.at(n, c - at, y, x); });
  what += " flatten";
  const Layout flat = make_layout(int(images.size()), 1, 1, 1, t.lanes);
  data = room(flat);
  t.kernels.flatten(laid(images, layout).data(), layout, data.data(), flat, t.c0, t.c1);
  const int area = int(plane), width = t.shape.width;
  verify(data, flat, t.shape.images, t.c0 * area, t.c1 * area,
        [&](int n, int k, int, int) { return images.at(n, k / area, k % area / width, k % width); });
  what += " clear_margins";
  data = laid(images, layout);
  std::vector<float> spoilt = room(layout);
  for (int n = 0; n < t.lanes; ++n)
    for (int c = 0; c < t.shape.channels; ++c)
      for (int y = 0; y < t.shape.height; ++y)
        for (int x = 0; x < t.shape.width; ++x) spoilt[size_t(place(layout, n, c, y, x))] = data[size_t(place(layout, n, c, y, x))];
  t.kernels.clear_margins(spoilt.data(), layout, 0, t.shape.channels);
  verify(spoilt, layout, t.shape.images, 0, t.shape.channels, [&](int n, int c, int y, int x) { return images.at(n, c, y, x); });
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
    verify(data, to, t.shape.images, t.c0, t.c1, [&](int n, int c, int y, int x) { return activated(act, expected(n, c, y, x)); });
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
  verify(data, to, t.shape.images, t.c0, t.c1, [&](int n, int c, int y, int x) { return pooled(a, w, mode, n, c, y, x); });
  what = before + " global pool " + std::to_string(int(mode));
  const Layout point = make_layout(t.shape.channels, 1, 1, 0, t.lanes);
  data = room(point);
  t.kernels.global_pool(laid(a, from).data(), from, data.data(), point, mode, t.c0, t.c1);
  Window all;
  all.kh = unsigned(t.shape.height), all.kw = unsigned(t.shape.width);
  verify(data, point, t.shape.images, t.c0, t.c1, [&](int n, int c, int, int) { return pooled(a, all, mode, n, c, 0, 0); });
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
  for (void (*one)(const Case&) : {check_moves, check_arithmetic, check_pools}) {
    what = before;
    one(t);
  }
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const unsigned seed = unsigned(std::atoi(argv[1])), rounds = unsigned(std::atoi(argv[2]));
  const AuxKernels* kernels[] = {aux_portable(), aux_avx2(), aux_avx512()};
  const char* names[] = {"portable", "avx2", "avx512"};
  for (const int set : instruction_sets()) {
    if (!kernels[set]) continue;
    for (unsigned i = 0; i < rounds; ++i) check_set(*kernels[set], names[set], seed + i);
    std::printf("%s ", names[set]);
  }
  std::printf("agree\n");
  return 0;
}
