// Vectors of the instruction set that this file is compiled for, by the compiler's own vector extensions: one source for
// AVX-512 (one register per 16 floats), AVX2 (two), SSE2 and NEON (four).
#pragma once

#include <cstdint>
#include <cstring>

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
typedef float vec __attribute__((vector_size(NTKSAP_FLOATS * 4)));                              // a register
typedef float vec_u __attribute__((vector_size(NTKSAP_FLOATS * 4), aligned(4), may_alias));     // anywhere in memory
typedef int32_t ivec __attribute__((vector_size(NTKSAP_FLOATS * 4)));

NTKSAP_INLINE vec load(const float* p) { return *reinterpret_cast<const vec_u*>(p); }
NTKSAP_INLINE void store(float* p, vec v) { *reinterpret_cast<vec_u*>(p) = v; }
NTKSAP_INLINE vec splat(float x) { return x - vec{}; }
NTKSAP_INLINE vec select(ivec mask, vec a, vec b) { return (vec)((mask & (ivec)a) | (~mask & (ivec)b)); }
NTKSAP_INLINE vec max(vec a, vec b) { return a > b ? a : b; }
NTKSAP_INLINE vec min(vec a, vec b) { return a < b ? a : b; }

}  // namespace NTKSAP_ISA
}  // namespace ntksap
