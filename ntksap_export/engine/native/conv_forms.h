// From the weights of a plan to the forms that the kernels read.
#pragma once

#include "conv.h"

namespace ntksap {

// A convolution's entries that are not zero, row by row; columns rise within a row.
struct Entries {
  std::vector<uint64_t> starts;  // rows + 1
  std::vector<int32_t> columns;
  std::vector<float> values;
  uint32_t rows() const { return uint32_t(starts.size() - 1); }
};

// Where rows begin among the entries, and how many columns the widest row spans.
struct Census {
  std::vector<uint64_t> starts;  // rows + 1
  uint64_t widest = 0;
};

Census census_of(const Weights&);
Entries entries_of(const Weights&, const Census&);

// What a layer's forms are made by: how wide a tile, how many columns in a block, from a packed copy or in place.
struct Choice {
  bool dense = false;
  int vectors = 1;
  bool packed = false;
  uint32_t block = 0;  // columns; at least 1
};

// `offsets`: of every column, in floats from a tile's source. Rows [row_begin, row_end) only.
SparseForm make_sparse(const Entries&, const std::vector<int32_t>& offsets, const Choice&, uint32_t row_begin,
                       uint32_t row_end);
DenseForm make_dense(const Entries&, const std::vector<int32_t>& offsets, const Choice&, int height, uint32_t row_begin,
                     uint32_t row_end);

}  // namespace ntksap
