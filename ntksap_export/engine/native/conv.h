// A convolution as the engine computes it, for one instruction set.
//
// Every convolution becomes a matrix times shifted copies of its input: out[o][p] = sum_k W[o][k] * source[offset_k +
// p], with p running over flat positions of the output and offset_k naming the channel plane and the shift of kernel
// column k. A tile is `vectors` x 16 of these positions. The columns may be cut into blocks, so that a block of the
// source stays in the first-level cache; sums wait in `partial` between blocks. A block is read in place, or from a
// packed copy of the tile.
#pragma once

#include <cstdint>
#include <vector>

#include "layout.h"
#include "memory.h"
#include "plan.h"

namespace ntksap {

constexpr int kMaxVectors = 8;  // of 16 floats, in a tile

// Where a tile's sums begin and what becomes of them.
struct Tile {
  int vectors;            // at most the form's: the last tiles of a plane are narrower
  const float* source;    // position 0 of the tile; offsets are added (in place) or the packed copy (packed)
  float* partial;         // rows x vectors x 16 floats, between blocks
  const float* bias;      // one for each row
  float* out;             // position 0 of the tile in channel 0
  int64_t out_stride;     // floats from a row (output channel) to the next
  const float* residual;  // like out, or null: added before the activation
  int64_t residual_stride;
  const uint16_t* masks;  // for each vector which of its 16 floats are kept, others become 0; null: all
  Activation activation;
};

// Rows in pairs of one length, so that two run side by side and a loop's count is the same for many pairs: a branch
// that the CPU predicts. Entry j of a pair holds two values and two offsets; the length is even.
struct PairGroup {
  uint32_t pairs, length;
};

constexpr int kRowsBehind = 16;  // rows of -1 that stand behind a form's rows: kernels look ahead

struct SparseBlock {
  uint32_t column_begin, column_end;
  std::vector<PairGroup> groups;
  uint64_t entries_begin;  // into values/offsets of the form, in single entries
  uint64_t rows_begin;     // into rows
};

// Weights of some rows of a sparse convolution, as the kernels read them.
struct SparseForm {
  int vectors = 0;  // lines of a column in the packed copy
  bool packed = false;
  uint32_t row_begin = 0, row_end = 0;
  std::vector<SparseBlock> blocks;
  Large<float> values;
  Large<int32_t> offsets;          // in place: floats from the tile's source
  Large<uint16_t> packed_offsets;  // packed: 64-byte lines from the packed tile's begin
  std::vector<int32_t> rows;       // ~row: a copy of its partner, where their number is odd; its sums go nowhere
  uint64_t bytes() const;
};

// Weights of some rows as a dense matrix: [block of columns][block of `height` rows][column][height], as they are read.
struct DenseForm {
  int vectors = 0, height = 0;
  bool packed = false;
  uint32_t row_begin = 0, row_end = 0, columns = 0, block = 0;  // columns of a block
  Large<float> values;
  std::vector<int32_t> offsets;  // of all columns, from the tile's source
  size_t blocks() const { return (columns + block - 1) / block; }
};

struct Phase {
  uint32_t ry, rx;
};

struct Phases {
  uint32_t sh, sw, count;
  const Phase* list;
};

struct ConvKernels {
  int floats;          // of a register
  int sparse_vectors;  // the widest tile whose sums fit the registers, two rows at a time
  // Widest and highest dense tile: sums of dense_vectors x dense_height fit the registers.
  int dense_vectors, dense_height;
  void (*sparse)(const SparseForm&, size_t block, bool first, bool last, const Tile&);
  void (*dense)(const DenseForm&, size_t block, bool first, bool last, const Tile&);
  // Copies columns [begin, end) of a tile: vectors x 16 floats from source + offsets[k] to `to` + (k - begin) * line
  // floats.
  void (*pack)(const float* source, const int32_t* offsets, uint32_t begin, uint32_t end, int vectors, int line,
               float* to);
  // The phases of one channel, one plane after the other: rows y * sh + ry, columns x * sw + rx, zeros where there are
  // none.
  void (*split)(const float* src, const Layout& from, float* dst, const Layout& to, const Phases&);
  // rows x vectors of 1 x 1 tensors with one lane: out[o] = act(bias + sum W x + residual)
  void (*vector_dense)(const float* weights, uint32_t columns, const float* x, uint32_t row_begin, uint32_t row_end,
                       const Tile&);
  void (*vector_sparse)(const float* values, const int32_t* columns, const uint64_t* row_starts, const float* x,
                        uint32_t row_begin, uint32_t row_end, const Tile&);
};

const ConvKernels* conv_avx512();  // null where the compiler could not make it
const ConvKernels* conv_avx2();
const ConvKernels* conv_portable();

}  // namespace ntksap
