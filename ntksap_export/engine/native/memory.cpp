#include "memory.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>

namespace ntksap {

namespace {

constexpr size_t kLine = 64, kLargePage = size_t(2) << 20;

bool large(size_t bytes) { return bytes >= kLargePage / 2; }

size_t rounded(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

// Fresh pages at a multiple of a large page: what the heap hands out again is made of small ones.
void* map(size_t bytes) {
  const size_t whole = rounded(bytes, kLargePage);
  if (whole < bytes || whole + kLargePage < whole) throw std::bad_alloc();
  void* block = mmap(nullptr, whole + kLargePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED) throw std::bad_alloc();
  char* begin = static_cast<char*>(block);
  const size_t skip = rounded(reinterpret_cast<uintptr_t>(begin), kLargePage) - reinterpret_cast<uintptr_t>(begin);
  if (skip) munmap(begin, skip);
  if (skip < kLargePage) munmap(begin + skip + whole, kLargePage - skip);
#if defined(MADV_HUGEPAGE)
  madvise(begin + skip, whole, MADV_HUGEPAGE);  // may be refused
#endif
  return begin + skip;
}

}  // namespace

void* take_memory(size_t bytes) {
  if (large(bytes)) return map(bytes);
  void* block = std::aligned_alloc(kLine, rounded(bytes ? bytes : 1, kLine));
  if (!block) throw std::bad_alloc();
  return block;
}

void give_memory(void* block, size_t bytes) {
  if (large(bytes))
    munmap(block, rounded(bytes, kLargePage));
  else
    std::free(block);
}

void Floats::reserve(int64_t count) {
  if (count <= count_) return;
  const size_t bytes = size_t(count) * sizeof(float);
  void* block = take_memory(bytes);
  if (!large(bytes)) std::memset(block, 0, bytes);
  release();
  data_ = static_cast<float*>(block);
  count_ = count;
}

void Floats::release() {
  if (data_) give_memory(data_, size_t(count_) * sizeof(float));
  data_ = nullptr;
  count_ = 0;
}

}  // namespace ntksap
