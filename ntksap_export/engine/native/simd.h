// Vectors of the instruction set that this file is compiled for, by the compiler's own vector extensions: one source
// for AVX-512 (one register per 16 floats), AVX2 (two), SSE2 and NEON (four).
#pragma once

#include <cstdint>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define NTKSAP_ISA avx512
#define NTKSAP_FLOATS 16
#elif defined(__AVX2__)
#define NTKSAP_ISA avx2
#define NTKSAP_FLOATS 8
#else
#define NTKSAP_ISA portable
#define NTKSAP_FLOATS 4
#endif

#define NTKSAP_INLINE inline __attribute__((always_inline))

namespace ntksap {
namespace NTKSAP_ISA {  // a name of its own per file, so that the linker never mixes two instruction sets

constexpr int kFloats = NTKSAP_FLOATS;
typedef float vec __attribute__((vector_size(NTKSAP_FLOATS * 4)));                           // a register
typedef float vec_u __attribute__((vector_size(NTKSAP_FLOATS * 4), aligned(4), may_alias));  // anywhere in memory
typedef int32_t ivec __attribute__((vector_size(NTKSAP_FLOATS * 4)));

NTKSAP_INLINE vec load(const float* p) { return *reinterpret_cast<const vec_u*>(p); }
NTKSAP_INLINE void store(float* p, vec v) { *reinterpret_cast<vec_u*>(p) = v; }
NTKSAP_INLINE vec splat(float x) { return x - vec{}; }
NTKSAP_INLINE vec select(ivec mask, vec a, vec b) { return (vec)((mask & (ivec)a) | (~mask & (ivec)b)); }
NTKSAP_INLINE vec max(vec a, vec b) { return a > b ? a : b; }
NTKSAP_INLINE vec min(vec a, vec b) { return a < b ? a : b; }

// Lanes whose bit is 0 become +0. Bits beyond the register are not looked at.
NTKSAP_INLINE vec keep(vec v, uint32_t bits) {
#if defined(__AVX512F__)
  return (vec)_mm512_maskz_mov_ps((__mmask16)bits, (__m512)v);
#else
  ivec lanes, ones;
  for (int i = 0; i < kFloats; ++i) {
    lanes[i] = i;
    ones[i] = 1;
  }
  const ivec all = int32_t(bits) - ivec{};
  return (vec)((ivec)v & -((all >> lanes) & ones));
#endif
}

}  // namespace NTKSAP_ISA
}  // namespace ntksap
