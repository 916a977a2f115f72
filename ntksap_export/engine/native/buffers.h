// Which tensors share memory. Only tensors of one plane layout do, so that the zeros around the rows are written once.
#pragma once

#include <cstdint>
#include <vector>

#include "layout.h"

namespace ntksap {

class BufferPlan {
 public:
  // A buffer for `layout` that is written by step `begin` and last read by step `end`; returns its number.
  size_t add(const Layout& layout, size_t begin, size_t end);
  // Gives every buffer its place. Afterwards offset(number) is in floats and floats() is all of it.
  void place();
  int64_t offset(size_t number) const { return slots_[slot_of_[number]].offset; }
  int64_t floats() const { return floats_; }

 private:
  struct Request {
    Layout layout;
    size_t begin, end;
  };
  struct Slot {
    Layout layout;  // its channels: the most that any tensor of it has
    size_t busy_until;
    int64_t offset;
  };
  size_t slot_for(const Request&);

  std::vector<Request> requests_;
  std::vector<size_t> slot_of_;
  std::vector<Slot> slots_;
  int64_t floats_ = 0;
};

}  // namespace ntksap
