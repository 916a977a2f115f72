// Floats that begin at a cache line, in large pages where the system gives them.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace ntksap {

constexpr size_t kLargePage = size_t(2) << 20;

// For vectors of weights: from a megabyte on in large pages, so that a stream through them seldom misses the TLB.
template <class T>
struct LargePages {
  typedef T value_type;
  LargePages() = default;
  template <class U>
  LargePages(const LargePages<U>&) {}
  T* allocate(size_t n) {
    const size_t bytes = (n * sizeof(T) + 63) / 64 * 64, alignment = bytes < kLargePage / 2 ? 64 : kLargePage;
    void* block = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    if (!block) throw std::bad_alloc();
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (alignment == kLargePage) madvise(block, bytes, MADV_HUGEPAGE);  // may be refused
#endif
    return static_cast<T*>(block);
  }
  void deallocate(T* block, size_t) { std::free(block); }
  bool operator==(const LargePages&) const { return true; }
  bool operator!=(const LargePages&) const { return false; }
};

template <class T>
using Large = std::vector<T, LargePages<T>>;

class Floats {
 public:
  Floats() = default;
  // All zero.
  explicit Floats(int64_t count) { reserve(count); }
  Floats(Floats&& other) noexcept : data_(std::exchange(other.data_, nullptr)), count_(std::exchange(other.count_, 0)) {}
  Floats& operator=(Floats&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }
  Floats(const Floats&) = delete;
  Floats& operator=(const Floats&) = delete;
  ~Floats() { std::free(base_of(data_)); }

  // At least `count` floats, all zero if they are new; pages are touched when they are written.
  void reserve(int64_t count) {
    if (count <= count_) return;
    const size_t bytes = (size_t(count) * sizeof(float) + kLargePage - 1) / kLargePage * kLargePage;
    void* fresh = std::calloc(1, bytes + 2 * kLargePage);
    if (!fresh) throw std::bad_alloc();
    std::free(base_of(data_));
    data_ = place(fresh, bytes);
    count_ = count;
  }

  float* data() { return data_; }
  const float* data() const { return data_; }
  int64_t count() const { return count_; }

 private:
  // calloc's zeros cost nothing where they come from the system; the block's own address stands before the floats.
  static float* place(void* block, size_t bytes) {
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(block) + sizeof(void*) + kLargePage - 1) / kLargePage * kLargePage;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (bytes >= 2 * kLargePage) madvise(reinterpret_cast<void*>(begin), bytes, MADV_HUGEPAGE);  // fewer misses of the TLB; may be refused
#else
    (void)bytes;
#endif
    reinterpret_cast<void**>(begin)[-1] = block;
    return reinterpret_cast<float*>(begin);
  }
  static void* base_of(float* data) { return data ? reinterpret_cast<void**>(data)[-1] : nullptr; }

  float* data_ = nullptr;
  int64_t count_ = 0;
};

}  // namespace ntksap
