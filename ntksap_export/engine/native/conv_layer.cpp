#include "conv_layer.h"

#include <algorithm>

namespace ntksap {

namespace {

constexpr uint64_t kRowCost = 8;  // what a row costs beside its entries, in entries

// Rows in `parts` of about equal work; cuts at multiples of `multiple`.
std::vector<uint32_t> cut_rows(const std::vector<uint64_t>& starts, size_t parts, uint32_t multiple) {
  const uint32_t rows = uint32_t(starts.size() - 1);
  const uint64_t total = starts[rows] + kRowCost * rows;
  std::vector<uint32_t> cuts{0};
  for (size_t i = 1; i < parts; ++i) {
    uint32_t row = cuts.back();
    while (row < rows && starts[row] + kRowCost * row < total * i / parts) ++row;
    row = std::min(rows, (row + multiple - 1) / multiple * multiple);
    if (row > cuts.back()) cuts.push_back(row);
  }
  if (cuts.back() < rows) cuts.push_back(rows);
  return cuts;
}

// Without the entries that look past the border of a plane of one position.
Entries inside(const Entries& e, const std::vector<int32_t>& offsets) {
  Entries kept;
  kept.starts.push_back(0);
  for (uint32_t row = 0; row < e.rows(); ++row) {
    for (uint64_t j = e.starts[row]; j < e.starts[row + 1]; ++j) {
      if (offsets[size_t(e.columns[j])] < 0) continue;
      kept.columns.push_back(e.columns[j]);
      kept.values.push_back(e.values[j]);
    }
    kept.starts.push_back(kept.columns.size());
  }
  return kept;
}

template <class V>
uint64_t bytes_of(const V& v) {
  return v.size() * sizeof(v[0]);
}

}  // namespace

uint64_t SparseForm::bytes() const {
  return bytes_of(values) + bytes_of(offsets) + bytes_of(packed_offsets) + bytes_of(rows);
}

ConvLayer::ConvLayer(const Op& op, const TensorInfo& in, const TensorInfo& out, const Layout& from, const Layout& to,
                     const ConvKernels& kernels)
    : op_(op), in_(in), from_(from), to_(to), kernels_(kernels), geometry_(conv_geometry(op, in, out, from, to)) {
  census_ = census_of(op.weights);
  nnz_ = census_.starts.back();
  widest_row_ = census_.widest;
  masks_ = masks_of(to);
  bias_.assign(op.weights.rows, 0.0f);
  if (op.weights.bias) std::copy(op.weights.bias, op.weights.bias + op.weights.rows, bias_.begin());
}

double ConvLayer::density() const {
  return double(nnz_) / double(std::max<uint64_t>(1, op_.weights.rows * op_.weights.columns));
}

// A row of a grouped convolution reads the channels of its group only.
bool ConvLayer::grouped() const { return widest_row_ * 4 <= op_.weights.columns; }

const Entries& ConvLayer::entries() {
  if (!entries_.starts.empty()) return entries_;
  entries_ = entries_of(op_.weights, census_);
  if (geometry_.reading == Reading::Gathered) entries_ = inside(entries_, geometry_.offsets);
  return entries_;
}

void ConvLayer::prepare_vector() {
  const uint64_t columns = op_.weights.columns;
  const bool outside = std::find(geometry_.offsets.begin(), geometry_.offsets.end(), -1) != geometry_.offsets.end();
  if (!choice_.dense) {
    vector_entries_ = entries();
  } else if (!op_.weights.sparse && !outside) {
    vector_weights_ = op_.weights.values;
  } else {
    const Entries& e = entries();
    vector_dense_.assign(e.rows() * columns, 0.0f);
    for (uint32_t row = 0; row < e.rows(); ++row)
      for (uint64_t j = e.starts[row]; j < e.starts[row + 1]; ++j)
        vector_dense_[row * columns + uint64_t(e.columns[j])] = e.values[j];
    vector_weights_ = vector_dense_.data();
  }
}

void ConvLayer::prepare(const Choice& choice, size_t parts, size_t multiple) {
  choice_ = choice;
  sparse_.clear();
  dense_.clear();
  cuts_ = cut_rows(census_.starts, parts, choice.dense ? uint32_t(kernels_.dense_height) : 1);
  parts_ = cuts_.size() - 1;
  if (vector_shaped()) return prepare_vector();
  const Entries& e = entries();
  std::vector<int32_t> offsets = geometry_.offsets;
  if (geometry_.reading == Reading::Gathered)
    std::replace(offsets.begin(), offsets.end(), -1, 0);  // outside: without weight
  tiles_ = geometry_.reading == Reading::Gathered ? std::vector<Place>{{0, 0, 1, 0}}
                                                  : tiles_of(to_, geometry_.source, choice.vectors, multiple);
  for (size_t i = 0; i < parts_; ++i) {
    if (choice.dense)
      dense_.push_back(make_dense(e, offsets, choice, kernels_.dense_height, cuts_[i], cuts_[i + 1]));
    else
      sparse_.push_back(make_sparse(e, offsets, choice, cuts_[i], cuts_[i + 1]));
  }
}

size_t ConvLayer::tasks() const { return vector_shaped() ? parts_ : tiles_.size() * parts_; }

int64_t ConvLayer::weight_of(size_t task) const { return vector_shaped() ? 1 : tiles_[task / parts_].vectors; }

void ConvLayer::run(size_t task, const ConvBuffers& buffers, Scratch& scratch) const {
  if (vector_shaped()) return run_vector(task, buffers, scratch);
  run_tile(tiles_[task / parts_], task % parts_, buffers, scratch);
}

void ConvLayer::reserve(Scratch& scratch) const {
  if (vector_shaped()) return scratch.gathered.reserve(int64_t(op_.weights.columns) + kVector);
  scratch.partial.reserve((int64_t(op_.weights.rows) + 1) * kMaxVectors * kVector);
  if (choice_.packed) scratch.packed.reserve(int64_t(choice_.block) * choice_.vectors * kVector + kVector);
}

Tile ConvLayer::tile_for(const Place& place, const ConvBuffers& buffers, Scratch& scratch) const {
  Tile tile{};
  tile.vectors = place.vectors;
  tile.partial = scratch.partial.data();
  tile.bias = bias_.data();
  tile.out = buffers.out + to_.origin + place.at;
  tile.out_stride = to_.stride;
  tile.residual = buffers.residual ? buffers.residual + to_.origin + place.at : nullptr;
  tile.residual_stride = to_.stride;
  tile.masks = masks_.empty() ? nullptr : masks_.data() + place.first_vector;
  tile.activation = op_.activation;
  return tile;
}

void ConvLayer::run_tile(const Place& place, size_t part, const ConvBuffers& buffers, Scratch& scratch) const {
  Tile tile = tile_for(place, buffers, scratch);
  const float* source = buffers.source + geometry_.source.origin + place.source;
  tile.source = source;
  const int line = choice_.vectors * kVector;
  const size_t blocks = choice_.dense ? dense_[part].blocks() : sparse_[part].blocks.size();
  for (size_t b = 0; b < blocks; ++b) {
    if (choice_.packed) {
      const uint32_t begin = choice_.dense ? uint32_t(b) * choice_.block : sparse_[part].blocks[b].column_begin;
      const uint32_t end = choice_.dense ? std::min(uint32_t(op_.weights.columns), begin + choice_.block)
                                         : sparse_[part].blocks[b].column_end;
      kernels_.pack(source, geometry_.offsets.data(), begin, end, place.vectors, line, scratch.packed.data());
      tile.source = scratch.packed.data();
    }
    if (choice_.dense)
      kernels_.dense(dense_[part], b, b == 0, b + 1 == blocks, tile);
    else
      kernels_.sparse(sparse_[part], b, b == 0, b + 1 == blocks, tile);
  }
}

void ConvLayer::run_vector(size_t part, const ConvBuffers& buffers, Scratch& scratch) const {
  const float* x = buffers.source;
  if (op_.weights.columns != in_.channels || from_.stride != 1) {
    float* gathered = scratch.gathered.data();
    const float* origin = buffers.source + geometry_.source.origin;
    for (size_t k = 0; k < geometry_.offsets.size(); ++k)
      gathered[k] = geometry_.offsets[k] < 0 ? 0.0f : origin[geometry_.offsets[k]];
    x = gathered;
  }
  Tile tile{};
  tile.bias = bias_.data();
  tile.out = buffers.out;
  tile.residual = buffers.residual;
  tile.activation = op_.activation;
  const uint32_t begin = cuts_[part], end = cuts_[part + 1];
  if (choice_.dense)
    kernels_.vector_dense(vector_weights_, uint32_t(op_.weights.columns), x, begin, end, tile);
  else
    kernels_.vector_sparse(vector_entries_.values.data(), vector_entries_.columns.data(), vector_entries_.starts.data(),
                           x, begin, end, tile);
}

uint64_t ConvLayer::bytes() const {
  uint64_t n = bytes_of(vector_dense_) + bytes_of(vector_entries_.columns) + bytes_of(vector_entries_.values);
  for (const SparseForm& form : sparse_) n += form.bytes();
  for (const DenseForm& form : dense_) n += bytes_of(form.values);
  return n;
}

std::string ConvLayer::kernel() const {
  std::string words = choice_.dense ? "dense" : "sparse";
  if (vector_shaped()) return words + " vector";
  words += ", tiles of " + std::to_string(choice_.vectors) + " vectors, " + std::to_string(choice_.block) +
           " columns at a time ";
  return words + (choice_.packed ? "packed" : "in place");
}

}  // namespace ntksap
