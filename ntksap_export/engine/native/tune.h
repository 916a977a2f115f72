// Which kernel a convolution runs on: a few candidates from what the kernels are known to like, then the clock decides.
#pragma once

#include <functional>
#include <vector>

#include "conv_layer.h"

namespace ntksap {

// How a layer is packed and dealt out: rows in so many parts, tiles of a flat plane in a multiple of so many.
struct Deal {
  Choice choice;
  size_t parts = 1, multiple = 1;
};

// The candidates of a layer, the likeliest first; one: there is nothing to choose.
std::vector<Choice> candidates_of(const ConvLayer&, const ConvKernels&);

// The deal that takes `lanes` threads the shortest, measured on one of them on the given buffers; leaves the layer
// prepared for some deal. What this process has measured before, for a layer of the same shape and density, is taken
// from memory.
Deal best_deal(ConvLayer&, const ConvKernels&, const ConvBuffers&, Scratch&, size_t lanes);

}  // namespace ntksap
