// Floats that begin at a cache line, in large pages where the system gives them.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace ntksap {

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
    const size_t bytes = (size_t(count) * sizeof(float) + kPage - 1) / kPage * kPage;
    void* fresh = std::calloc(1, bytes + 2 * kPage);
    if (!fresh) throw std::bad_alloc();
    std::free(base_of(data_));
    data_ = place(fresh, bytes);
    count_ = count;
  }

  float* data() { return data_; }
  const float* data() const { return data_; }
  int64_t count() const { return count_; }

 private:
  static constexpr size_t kPage = size_t(2) << 20;

  // calloc's zeros cost nothing where they come from the system; the block's own address stands before the floats.
  static float* place(void* block, size_t bytes) {
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(block) + sizeof(void*) + kPage - 1) / kPage * kPage;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (bytes >= 2 * kPage) madvise(reinterpret_cast<void*>(begin), bytes, MADV_HUGEPAGE);  // fewer misses of the TLB; may be refused
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
