// Reads little-endian numbers out of a plan's bytes and refuses whatever would lie outside them. All sizes are u64: the
// largest product that the limits below allow, rows * columns * 4 bytes of a convolution, stays under 2^60.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

#include "plan.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "a plan is little-endian and its weights are used where they lie: this machine's byte order is not supported"
#endif

namespace ntksap {

constexpr uint64_t kMaxEntries = 65536;  // tensors, operators
constexpr uint64_t kMaxChannels = 1 << 20, kMaxSide = 1 << 14, kMaxElements = 1 << 28;
constexpr uint64_t kMaxKernel = 64, kMaxStride = 16, kMaxDilation = 64;
constexpr uint64_t kMaxPadding = kMaxKernel * kMaxDilation;  // what a kernel can reach
constexpr uint64_t kNoBias = ~uint64_t(0);

// Why a plan is refused. Thrown and caught inside parse_plan only.
struct Refusal {
  std::string reason;
};

[[noreturn]] inline void refuse(std::string reason) { throw Refusal{std::move(reason)}; }

inline void require(bool holds, const char* reason) {
  if (!holds) refuse(reason);
}

inline std::string text(uint64_t number) { return std::to_string(number); }

class Bytes {
 public:
  Bytes(const void* data, uint64_t size) : data_(static_cast<const unsigned char*>(data)), size_(size) {}

  uint64_t size() const { return size_; }

  // The address of `count` elements of `width` bytes from `offset` on; refused where they do not all lie inside,
  // as "`what` end at byte ..., `whole` ...".
  const unsigned char* range(uint64_t offset, uint64_t count, uint64_t width, const char* what,
                             const char* whole) const {
    const bool countable = count <= (~uint64_t(0) - offset) / width;
    const uint64_t end = countable ? offset + count * width : ~uint64_t(0);
    if (end > size_)
      refuse(std::string(what) + " end at byte " + (countable ? text(end) : "2^64 or more") + ", " + whole + " " +
             text(size_));
    return data_ + offset;
  }

  uint32_t u32(uint64_t offset) const {
    uint32_t value;
    std::memcpy(&value, range(offset, 1, 4, "four bytes", "the plan has"), 4);
    return value;
  }

  uint64_t u64(uint64_t offset) const { return u32(offset) | uint64_t(u32(offset + 4)) << 32; }

 private:
  const unsigned char* data_;
  uint64_t size_;
};

// The words of the code, read one after the other.
class Words {
 public:
  Words(const Bytes& bytes, uint64_t offset, uint64_t count) : bytes_(bytes), next_(offset), left_(count) {}

  uint64_t left() const { return left_; }

  uint32_t take() {
    if (left_ == 0) refuse("its code goes on after the last word");
    const uint32_t word = bytes_.u32(next_);
    next_ += 4;
    --left_;
    return word;
  }

  float take_float() {
    const uint32_t word = take();
    float value;
    std::memcpy(&value, &word, 4);
    return value;
  }

  uint64_t take_u64() {
    const uint64_t low = take();
    return low | uint64_t(take()) << 32;
  }

 private:
  const Bytes& bytes_;
  uint64_t next_, left_;
};

// plan_weights.cpp: what an operator's weights say, `code` standing at its encoding; `blob` is the plan's weights.
void read_weights(Words& code, const Bytes& blob, const Plan& plan, Op& op);
// plan_shapes.cpp: refuses an operator whose tensors do not fit each other.
void check_shapes(const Plan& plan, const Op& op);

const char* kind_name(Kind kind);

}  // namespace ntksap
