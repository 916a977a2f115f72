// Where everything of a plan lies: a layout for each tensor, and for each convolution how its input is read.
#pragma once

#include <utility>
#include <vector>

#include "conv.h"
#include "layout.h"
#include "plan.h"

namespace ntksap {

// How many zeros must stand between the rows of tensors of one height and width, so that every convolution that reads
// or writes them finds zeros where it looks past the border.
class Gaps {
 public:
  explicit Gaps(const Plan&);
  int of(const TensorInfo&) const;

 private:
  void need(uint32_t height, uint32_t width, int64_t gap);
  std::vector<std::pair<uint64_t, int>> gaps_;  // by height and width
};

// A copy of a convolution's input for strides and sizes that cannot be read in place: phase (ry, rx) holds the rows
// y * sh + ry and columns x * sw + rx, in the pitch of the output. Phases are channels: c * phases + number.
struct Split {
  uint32_t sh = 1, sw = 1;
  std::vector<Phase> phases;
};

enum class Reading {
  InPlace,  // stride 1, one height and width: shifts of the input's planes
  Copied,   // through a Split
  Gathered  // the output is 1 x 1: one position
};

struct ConvGeometry {
  Reading reading = Reading::InPlace;
  Split split;
  Layout source;                 // of what the kernels read: the input's, or the copy's
  std::vector<int32_t> offsets;  // by column, in floats from position (0, 0) of channel 0; Gathered: -1 is outside
};

Layout tensor_layout(const TensorInfo&, const Gaps&, int lanes);
ConvGeometry conv_geometry(const Op&, const TensorInfo& input, const TensorInfo& output, const Layout& from,
                           const Layout& to);

// A tile of a layout: `vectors` from float `at` (of the channel) on, and whether it is the first of its kind.
struct Place {
  int64_t at;      // floats from the output's position (0, 0)
  int64_t source;  // the same in the source
  int vectors;
  int first_vector;  // lanes 1: number of its first vector, for the masks
};

// Tiles that cover a plane, at most `vectors` wide and as even as can be; of a flat plane a multiple of `multiple`.
std::vector<Place> tiles_of(const Layout& output, const Layout& source, int vectors, size_t multiple);

// Lanes 1: for each vector of a plane the bits of the positions that are not gaps. Lanes 16: none.
std::vector<uint16_t> masks_of(const Layout&);

}  // namespace ntksap
