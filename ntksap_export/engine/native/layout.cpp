// Where a tensor's floats lie: margins wide enough that a kernel never asks whether a position has a neighbour.
#include "layout.h"

namespace ntksap {

static int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// Channels an odd number of cache lines apart do not fall into the same few sets of a cache.
static int64_t odd_lines(int64_t floats) {
  const int64_t lines = round_up(floats, kVector) / kVector;
  return (lines % 2 ? lines : lines + 1) * kVector;
}

Layout make_layout(int channels, int height, int width, int gap, int lanes) {
  Layout layout{};
  layout.channels = channels, layout.height = height, layout.width = width, layout.lanes = lanes;
  if (height == 1 && width == 1) {
    layout.pitch = 1;
    layout.stride = lanes;
    return layout;
  }
  layout.gap = gap;
  layout.pitch = width + gap;
  const int64_t margin = (int64_t(gap) * layout.pitch + gap) * lanes;  // the farthest neighbour of position (0, 0)
  const int64_t last_vector = lanes == 1 ? kVector - 1 : 0;            // what a vector from the last position on covers
  layout.origin = round_up(margin, kVector);
  layout.stride = odd_lines(layout.origin + layout.positions() * lanes + last_vector + margin);
  return layout;
}

}  // namespace ntksap
