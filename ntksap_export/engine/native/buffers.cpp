#include "buffers.h"

#include <algorithm>
#include <numeric>

namespace ntksap {

namespace {

constexpr int64_t kSlack = 64;  // floats behind a buffer that a whole vector may read

bool same_planes(const Layout& a, const Layout& b) {
  return a.height == b.height && a.width == b.width && a.gap == b.gap && a.lanes == b.lanes && a.pitch == b.pitch &&
         a.origin == b.origin && a.stride == b.stride;
}

int64_t rounded(int64_t n) { return (n + kSlack + kVector - 1) / kVector * kVector; }

}  // namespace

size_t BufferPlan::add(const Layout& layout, size_t begin, size_t end) {
  requests_.push_back({layout, begin, end});
  return requests_.size() - 1;
}

// The free slot of the same planes that fits best; the largest, which then grows, where none is large enough.
size_t BufferPlan::slot_for(const Request& request) {
  size_t best = slots_.size();
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].busy_until >= request.begin || !same_planes(slots_[i].layout, request.layout)) continue;
    if (best == slots_.size()) {
      best = i;
      continue;
    }
    const int have = slots_[i].layout.channels, had = slots_[best].layout.channels, want = request.layout.channels;
    const bool better = had >= want ? have >= want && have < had : have > had;
    if (better) best = i;
  }
  if (best == slots_.size()) slots_.push_back({request.layout, 0, 0});
  Slot& slot = slots_[best];
  slot.busy_until = request.end;
  slot.layout.channels = std::max(slot.layout.channels, request.layout.channels);
  return best;
}

void BufferPlan::place() {
  std::vector<size_t> order(requests_.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return requests_[a].begin < requests_[b].begin; });
  slot_of_.assign(requests_.size(), 0);
  for (const size_t i : order) slot_of_[i] = slot_for(requests_[i]);
  floats_ = 0;
  for (Slot& slot : slots_) {
    slot.offset = floats_;
    floats_ += rounded(slot.layout.floats());
  }
}

}  // namespace ntksap
