#include "tune.h"

#include <algorithm>
#include <chrono>

#include "tune_cache.h"

namespace ntksap {

namespace {

constexpr double kEnough = 1e-3;             // seconds of a measurement: what is longer is extrapolated
constexpr double kIdle = 1.3, kEven = 1.05;  // unevenness that is not worth measuring, and that needs no other deal
constexpr double kWorthDense = 0.35;         // density from which the dense kernel is tried
constexpr double kSeldomSparse = 0.5;        // density from which few of the sparse ones are
constexpr uint64_t kMostLines = 65535;       // of a packed tile: offsets have 16 bits
constexpr int64_t kFirstLevel = 512;         // lines of 64 bytes that a block of columns may hold: 32 KiB

using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

void add(std::vector<Choice>& list, Choice choice, const ConvLayer& layer) {
  const uint32_t columns = uint32_t(layer.op().weights.columns);
  choice.block = std::max(1u, std::min(choice.block, columns));
  if (choice.packed && uint64_t(choice.block) * uint64_t(choice.vectors) > kMostLines) return;
  for (const Choice& c : list)
    if (c.dense == choice.dense && c.vectors == choice.vectors && c.packed == choice.packed && c.block == choice.block)
      return;
  list.push_back(choice);
}

// Columns of a block such that so many vectors of each stay in the first-level cache.
uint32_t block_for(int vectors, int64_t share) { return uint32_t(std::max<int64_t>(8, kFirstLevel * share / vectors)); }

void add_sparse(std::vector<Choice>& list, const ConvLayer& layer, const ConvKernels& kernels) {
  const int most = kernels.sparse_vectors;
  const uint32_t all = uint32_t(layer.op().weights.columns);
  if (layer.grouped()) {  // a row reads few of the columns: blocks would be empty
    for (const int v : {8, 6, 4, 2, 1})
      if (v <= most) add(list, {false, v, false, all}, layer);
    return;
  }
  if (most < 4) {
    for (const bool packed : {true, false})
      for (const int v : {1, 2})
        if (v <= most) add(list, {false, v, packed, block_for(v, 1)}, layer);
    return;
  }
  if (layer.density() > kSeldomSparse) {
    for (const int v : {8, 7}) add(list, {false, v, false, 64}, layer);
    add(list, {false, 8, true, 64}, layer);
    return add(list, {false, 4, true, 128}, layer);
  }
  for (const int v : {4, 5, 6}) add(list, {false, v, true, 128}, layer);
  add(list, {false, 2, true, 256}, layer);
  for (const int v : {8, 7, 6}) add(list, {false, v, false, block_for(v, 2)}, layer);
  for (const int v : {8, 7}) add(list, {false, v, false, 64}, layer);
  for (const int v : {3, 4, 5}) add(list, {false, v, true, 256}, layer);
  for (const int v : {8, 7}) add(list, {false, v, false, 256}, layer);
  for (const int v : {8, 7}) add(list, {false, v, true, 64}, layer);
}

void add_dense(std::vector<Choice>& list, const ConvLayer& layer, const ConvKernels& kernels) {
  const int most = kernels.dense_vectors;
  for (const uint32_t block : {512u, 128u})
    for (const int v : {most, most - 1})
      if (v >= 1) add(list, {true, v, false, block}, layer);
  add(list, {true, most, true, 512}, layer);
  if (most >= 4) add(list, {true, 2, true, 512}, layer);
}

// Runs tasks until enough time went by; seconds of all of them by their weights.
double measure(const ConvLayer& layer, const ConvBuffers& buffers, Scratch& scratch) {
  int64_t all = 0, done = 0;
  for (size_t t = 0; t < layer.tasks(); ++t) all += layer.weight_of(t);
  const Clock::time_point begin = Clock::now();
  for (size_t t = 0; t < layer.tasks(); ++t) {
    layer.run(t, buffers, scratch);
    done += layer.weight_of(t);
    if (since(begin) > kEnough) break;
  }
  return since(begin) * double(all) / double(std::max<int64_t>(done, 1));
}

std::string key_of(const ConvLayer& layer, const ConvKernels& kernels, size_t lanes) {
  const Weights& w = layer.op().weights;
  const Layout &to = layer.output(), &from = layer.geometry().source;
  std::string key = std::to_string(kernels.floats);
  const uint64_t density = uint64_t(layer.density() * 200 + 0.5);
  for (const uint64_t part : {uint64_t(lanes), uint64_t(to.lanes), w.rows, w.columns, density, uint64_t(to.height),
                              uint64_t(to.width), uint64_t(to.pitch), uint64_t(from.stride), uint64_t(layer.grouped())})
    key += "," + std::to_string(part);
  return key;
}

// A deal from a file may be of another engine, or of nobody.
bool usable(const Deal& deal, const ConvLayer& layer, const ConvKernels& kernels, size_t lanes) {
  const Choice& c = deal.choice;
  const int widest = c.dense ? kernels.dense_vectors : kernels.sparse_vectors;
  return c.vectors >= 1 && c.vectors <= widest && c.block >= 1 && c.block <= layer.op().weights.columns &&
         (!c.packed || uint64_t(c.block) * uint64_t(c.vectors) <= kMostLines) && deal.parts >= 1 &&
         deal.parts <= lanes && deal.multiple >= 1 && deal.multiple <= lanes;
}

// How long the slowest lane works when tasks are taken one after the other, as a share of an even split (>= 1).
double unevenness(const std::vector<Place>& tiles, size_t parts, size_t lanes) {
  std::vector<int64_t> load(lanes, 0);
  int64_t all = 0;
  for (const Place& tile : tiles)
    for (size_t p = 0; p < parts; ++p) {
      *std::min_element(load.begin(), load.end()) += tile.vectors;
      all += tile.vectors;
    }
  return double(*std::max_element(load.begin(), load.end())) * double(lanes) / double(std::max<int64_t>(all, 1));
}

// The ways to deal a choice out that leave no lane idle for long; the tiles are as wide as they come out.
std::vector<Deal> deals_of(const ConvLayer& layer, const Choice& choice, size_t lanes) {
  std::vector<Deal> deals;
  for (const size_t multiple : {size_t(1), lanes}) {
    const std::vector<Place> tiles = tiles_of(layer.output(), layer.geometry().source, choice.vectors, multiple);
    int widest = 1;
    for (const Place& tile : tiles) widest = std::max(widest, tile.vectors);
    if (!deals.empty() && widest == deals.back().choice.vectors) continue;
    for (const size_t parts : {size_t(1), lanes}) {
      if (!deals.empty() && (parts == 1) == (lanes == 1) && unevenness(tiles, parts, lanes) > kIdle) continue;
      Choice actual = choice;
      actual.vectors = widest;
      deals.push_back({actual, parts, multiple});
      if (lanes == 1 || unevenness(tiles, parts, lanes) < kEven) break;
    }
  }
  return deals;
}

}  // namespace

std::vector<Choice> candidates_of(const ConvLayer& layer, const ConvKernels& kernels) {
  std::vector<Choice> list;
  const uint32_t all = uint32_t(layer.op().weights.columns);
  if (layer.vector_shaped()) return {{layer.density() > 0.5, 1, false, all}};
  if (layer.geometry().reading == Reading::Gathered) return {{layer.density() > 0.5, 1, false, std::min(all, 512u)}};
  if (layer.density() < 0.9) add_sparse(list, layer, kernels);
  if (layer.density() >= kWorthDense) add_dense(list, layer, kernels);
  return list;
}

Deal best_deal(ConvLayer& layer, const ConvKernels& kernels, const ConvBuffers& buffers, Scratch& scratch,
               size_t lanes) {
  const std::vector<Choice> candidates = candidates_of(layer, kernels);
  if (candidates.size() == 1) return {candidates[0], lanes, 1};
  const std::string key = key_of(layer, kernels, lanes);
  Deal best;
  if (recall(key, best) && usable(best, layer, kernels, lanes)) return best;
  double shortest = 1e30;
  for (const Choice& choice : candidates) {
    for (const Deal& deal : deals_of(layer, choice, lanes)) {
      layer.prepare(deal.choice, deal.parts, deal.multiple);
      layer.reserve(scratch);
      const double idle = unevenness(layer.tiles(), layer.parts(), lanes);
      double seconds = measure(layer, buffers, scratch) * idle;
      for (int again = 0; again < 2 && seconds < 1.3 * shortest; ++again)
        seconds = std::min(seconds, measure(layer, buffers, scratch) * idle);
      if (seconds < shortest) best = deal;
      shortest = std::min(shortest, seconds);
    }
  }
  remember(key, best);
  return best;
}

}  // namespace ntksap
