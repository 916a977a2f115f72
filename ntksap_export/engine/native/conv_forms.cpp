#include "conv_forms.h"

#include <algorithm>

namespace ntksap {

namespace {

// Calls with(row, column, value) for each weight that is not zero, row by row, columns rising.
template <class With>
void for_entries(const Weights& weights, With with) {
  const float* value = weights.values;
  const uint16_t* delta = weights.deltas;
  for (uint64_t row = 0; row < weights.rows; ++row) {
    int64_t k = -1;
    const uint64_t count = weights.sparse ? weights.counts[row] : weights.columns;
    for (uint64_t j = 0; j < count; ++j, ++value) {
      k += 1 + (weights.sparse ? int64_t(*delta++) : 0);
      if (*value != 0) with(row, k, *value);
    }
  }
}

uint64_t rounded(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

struct Segment {
  uint32_t row;
  uint64_t begin, length;  // of the entries
};

// The entries of each row in columns [begin, end); `next` remembers where each row stands.
std::vector<Segment> segments_of(const Entries& e, uint32_t row_begin, std::vector<uint64_t>& next, uint32_t end,
                                 bool every_row) {
  std::vector<Segment> segments;
  for (uint32_t i = 0; i < next.size(); ++i) {
    const uint64_t begin = next[i], stop = e.starts[row_begin + i + 1];
    uint64_t j = begin;
    while (j < stop && uint32_t(e.columns[j]) < end) ++j;
    next[i] = j;
    if (every_row || j > begin) segments.push_back({row_begin + i, begin, j - begin});
  }
  std::stable_sort(segments.begin(), segments.end(),
                   [](const Segment& a, const Segment& b) { return a.length < b.length; });
  return segments;
}

// Entry j of a segment, or past its end a zero weight on its last column, which the row reads anyway.
struct Entry {
  float value;
  uint32_t column;
};

Entry entry(const Entries& e, const Segment& s, uint64_t j, uint32_t fallback) {
  if (j < s.length) return {e.values[s.begin + j], uint32_t(e.columns[s.begin + j])};
  return {0.0f, s.length ? uint32_t(e.columns[s.begin + s.length - 1]) : fallback};
}

void add_pair(SparseForm& form, SparseBlock& block, const Entries& e, const std::vector<int32_t>& offsets,
              const Segment& a, const Segment& b) {
  const uint64_t length = rounded(std::max(a.length, b.length), 2);
  for (uint64_t j = 0; j < length; ++j) {
    for (const Segment* s : {&a, &b}) {
      const Entry x = entry(e, *s, j, a.length ? uint32_t(e.columns[a.begin]) : uint32_t(e.columns[b.begin]));
      form.values.push_back(x.value);
      if (form.packed)
        form.packed_offsets.push_back(uint16_t((x.column - block.column_begin) * uint32_t(form.vectors)));
      else
        form.offsets.push_back(offsets[x.column]);
    }
  }
  form.rows.push_back(int32_t(a.row));
  form.rows.push_back(a.row == b.row ? ~int32_t(b.row) : int32_t(b.row));
  if (!block.groups.empty() && block.groups.back().length == length)
    ++block.groups.back().pairs;
  else
    block.groups.push_back({1, uint32_t(length)});
}

}  // namespace

Census census_of(const Weights& weights) {
  Census census;
  census.starts.assign(weights.rows + 1, 0);
  int64_t first = 0;
  uint64_t row_before = weights.rows;
  for_entries(weights, [&](uint64_t row, int64_t k, float) {
    if (row != row_before) first = k;
    row_before = row;
    census.widest = std::max(census.widest, uint64_t(k - first + 1));
    ++census.starts[row + 1];
  });
  for (uint64_t row = 0; row < weights.rows; ++row) census.starts[row + 1] += census.starts[row];
  return census;
}

Entries entries_of(const Weights& weights, const Census& census) {
  Entries e;
  e.starts = census.starts;
  e.columns.reserve(census.starts.back());
  e.values.reserve(census.starts.back());
  for_entries(weights, [&](uint64_t, int64_t k, float value) {
    e.columns.push_back(int32_t(k));
    e.values.push_back(value);
  });
  return e;
}

SparseForm make_sparse(const Entries& e, const std::vector<int32_t>& offsets, const Choice& choice, uint32_t row_begin,
                       uint32_t row_end) {
  SparseForm form;
  form.vectors = choice.vectors;
  form.packed = choice.packed;
  form.row_begin = row_begin;
  form.row_end = row_end;
  const uint64_t nnz = e.starts[row_end] - e.starts[row_begin];
  form.values.reserve(nnz + nnz / 16);
  const uint32_t columns = uint32_t(offsets.size());
  std::vector<uint64_t> next(e.starts.begin() + row_begin, e.starts.begin() + row_end);
  for (uint32_t begin = 0; begin < columns; begin += choice.block) {
    SparseBlock block{begin, std::min(columns, begin + choice.block), {}, form.values.size(), form.rows.size()};
    const bool every_row = begin == 0 || block.column_end == columns;
    const std::vector<Segment> segments = segments_of(e, row_begin, next, block.column_end, every_row);
    for (size_t i = 0; i < segments.size(); i += 2)  // an odd row is its own partner
      add_pair(form, block, e, offsets, segments[i], segments[std::min(i + 1, segments.size() - 1)]);
    if (every_row || !segments.empty()) form.blocks.push_back(std::move(block));
  }
  form.rows.insert(form.rows.end(), kRowsBehind, -1);
  return form;
}

DenseForm make_dense(const Entries& e, const std::vector<int32_t>& offsets, const Choice& choice, int height,
                     uint32_t row_begin, uint32_t row_end) {
  DenseForm form;
  form.vectors = choice.vectors;
  form.height = height;
  form.packed = choice.packed;
  form.row_begin = row_begin;
  form.row_end = row_end;
  form.columns = uint32_t(offsets.size());
  form.block = choice.block;
  form.offsets = offsets;
  const uint64_t h = uint64_t(height), row_blocks = rounded(row_end - row_begin, h) / h;
  form.values.assign(row_blocks * h * form.columns, 0.0f);
  for (uint32_t row = row_begin; row < row_end; ++row) {
    const uint64_t i = row - row_begin;
    for (uint64_t j = e.starts[row]; j < e.starts[row + 1]; ++j) {
      const uint32_t k = uint32_t(e.columns[j]), begin = k / form.block * form.block,
                     width = std::min(form.block, form.columns - begin);
      form.values[begin * row_blocks * h + i / h * h * width + (k - begin) * h + i % h] = e.values[j];
    }
  }
  return form;
}

}  // namespace ntksap
