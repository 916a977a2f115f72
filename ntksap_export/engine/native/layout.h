// How a tensor lies in memory while the engine runs.
//
// Lanes 1 ("planes", one image at a time): a channel is a plane of rows with `gap` zeros between them, so that the
// right border of one row is the left border of the next and a shift by (dy, dx) is one offset, dy * pitch + dx, for
// all positions. Lanes 16 ("batch innermost"): every position holds 16 floats, one of each image; all offsets are
// multiples of 16. A tensor of 1 x 1 has no margins: its channels follow each other (stride = lanes).
//
//   float of image lane l, channel c, row y, column x:   c * stride + origin + (y * pitch + x) * lanes + l
//
// Everything of a channel outside its rows is zero (margins above and below, gaps), and whoever writes a tensor keeps
// it so.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ntksap {

constexpr int kVector =
    16;  // floats in a vector as the engine counts them: 64 bytes, whatever the CPU's registers hold

struct Layout {
  int channels, height, width;
  int gap;         // zeros between two rows, and rows of zeros above and below
  int lanes;       // 1 or 16
  int pitch;       // positions from a row to the next: width + gap (1 x 1: 1)
  int64_t origin;  // float of position (0, 0) in a channel; a multiple of 16 unless 1 x 1 with one lane
  int64_t stride;  // floats from a channel to the next; a multiple of 16 unless 1 x 1 with one lane

  int64_t positions() const { return int64_t(height) * pitch; }  // flat positions, gaps included
  int64_t row(int y) const { return origin + int64_t(y) * pitch * lanes; }
  int64_t floats() const { return channels * stride + kVector; }
};

// The layout of a tensor whose rows need `gap` zeros between them. A channel holds its positions and around them what
// gap * pitch + gap positions before the first and after the last vector reach; with one lane a vector of 16 may begin
// at any position and be read or written whole. Channels lie an odd number of cache lines apart. 1 x 1: no gap, stride
// = lanes.
Layout make_layout(int channels, int height, int width, int gap, int lanes);

}  // namespace ntksap
