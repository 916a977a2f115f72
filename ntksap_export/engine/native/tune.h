// Which kernel a convolution runs on: a few candidates from what the kernels are known to like, then the clock decides.
#pragma once

#include <functional>
#include <vector>

#include "conv_layer.h"

namespace ntksap {

struct Trial {
  Choice choice;
  double seconds;  // of all tasks, one after the other
};

// The candidates of a layer, the likeliest first; one: there is nothing to choose.
std::vector<Choice> candidates_of(const ConvLayer&, const ConvKernels&);

// Measures the candidates of a layer on the given buffers; leaves it prepared for the last one. Trials of a layer of the same
// shape and density that this process has measured before are taken from memory.
std::vector<Trial> measure_candidates(ConvLayer&, const ConvKernels&, const ConvBuffers&, Scratch&);

struct Decision {
  Choice choice;
  size_t parts;
  double seconds;  // expected, on all lanes
};

// The best of the trials for so many lanes: tiles are dealt out whole, or rows too where the tiles do not come out even.
Decision decide(const std::vector<Trial>&, const ConvLayer&, size_t lanes);

}  // namespace ntksap
