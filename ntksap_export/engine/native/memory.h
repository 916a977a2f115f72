// Memory that begins at a cache line, and from a megabyte on comes from the system in large pages where it gives them:
// streams of weights and planes of a tensor then seldom miss the TLB (a fifth of the whole time otherwise).
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace ntksap {

void* take_memory(size_t bytes);  // throws std::bad_alloc; all zero from a megabyte on
void give_memory(void* block, size_t bytes);

// For vectors of weights.
template <class T>
struct LargePages {
  typedef T value_type;
  LargePages() = default;
  template <class U>
  LargePages(const LargePages<U>&) {}
  T* allocate(size_t n) { return static_cast<T*>(take_memory(n * sizeof(T))); }
  void deallocate(T* block, size_t n) { give_memory(block, n * sizeof(T)); }
  bool operator==(const LargePages&) const { return true; }
  bool operator!=(const LargePages&) const { return false; }
};

template <class T>
using Large = std::vector<T, LargePages<T>>;

// Floats that nobody writes before they are asked for: pages are touched when they are used.
class Floats {
 public:
  Floats() = default;
  Floats(Floats&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), count_(std::exchange(other.count_, 0)) {}
  Floats& operator=(Floats&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }
  Floats(const Floats&) = delete;
  Floats& operator=(const Floats&) = delete;
  ~Floats() { release(); }

  // At least `count` floats; all zero, and what was there before is lost, where there were fewer.
  void reserve(int64_t count);

  float* data() { return data_; }
  const float* data() const { return data_; }
  int64_t count() const { return count_; }

 private:
  void release();

  float* data_ = nullptr;
  int64_t count_ = 0;
};

}  // namespace ntksap
