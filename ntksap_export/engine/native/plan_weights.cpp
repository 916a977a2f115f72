// A convolution's weights in a plan's blob: where they lie, and that every entry of a sparse row names a column.
#include "plan_reader.h"

namespace ntksap {
namespace {

constexpr char kBlob[] = "the plan's weights have";

template <typename T>
const T* array(const Bytes& blob, uint64_t offset, uint64_t count, const char* what) {
  if (offset % 4 != 0)
    refuse(std::string(what) + " begin at byte " + text(offset) + " of the weights; wanted a multiple of 4");
  return reinterpret_cast<const T*>(blob.range(offset, count, sizeof(T), what, kBlob));
}

// Walks the deltas of every row; counts and deltas lie inside the blob already.
void check_rows(const Weights& w) {
  uint64_t entry = 0;
  for (uint64_t row = 0; row < w.rows; ++row) {
    const uint64_t end = entry + w.counts[row];
    if (end > w.nnz) refuse("its rows hold more than the " + text(w.nnz) + " entries it says");
    uint64_t past = 0;  // the column after the last entry's
    for (; entry < end; ++entry) {
      past += uint64_t(w.deltas[entry]) + 1;
      if (past > w.columns)
        refuse("row " + text(row) + " names column " + text(past - 1) + ", there are " + text(w.columns));
    }
  }
  if (entry != w.nnz) refuse("its rows hold " + text(entry) + " entries, it says " + text(w.nnz));
}

void place_sparse(const Bytes& blob, uint64_t offset, Weights& w) {
  w.counts = array<uint32_t>(blob, offset, w.rows, "counts of its rows");
  const uint64_t values = offset + w.rows * 4;
  w.values = array<float>(blob, values, w.nnz, "weights");
  const uint64_t deltas = values + w.nnz * 4;
  w.deltas = array<uint16_t>(blob, deltas, w.nnz + w.nnz % 2, "deltas");
  check_rows(w);
}

void place_dense(const Bytes& blob, uint64_t offset, Weights& w) {
  if (w.nnz != w.rows * w.columns)
    refuse("it says " + text(w.nnz) + " weights; dense ones are " + text(w.rows) + " x " + text(w.columns));
  w.values = array<float>(blob, offset, w.nnz, "weights");
}

}  // namespace

void read_weights(Words& code, const Bytes& blob, const Plan& plan, Op& op) {
  Weights& w = op.weights;
  const uint32_t encoding = code.take();
  if (encoding > 1) refuse("its encoding is " + text(encoding) + "; this library knows 0 and 1");
  w.sparse = encoding == 1;
  w.rows = plan.tensors[op.output].channels;
  w.columns = uint64_t(plan.tensors[op.inputs[0]].channels) * op.window.kh * op.window.kw;
  if (w.columns > kMaxElements)
    refuse("its rows have " + text(w.columns) + " columns; at most " + text(kMaxElements) + " are allowed");
  const uint64_t weights = code.take_u64(), bias = code.take_u64();
  w.nnz = code.take_u64();
  if (w.sparse)
    place_sparse(blob, weights, w);
  else
    place_dense(blob, weights, w);
  if (bias != kNoBias) w.bias = array<float>(blob, bias, w.rows, "biases");
}

}  // namespace ntksap
