#include "dispatch.h"

#include <cstdlib>
#include <cstring>

namespace ntksap {
namespace {

Isa detect() {
#if defined(__x86_64__)
  // Of the compiler's runtime: asks the CPU, and the operating system for the wide registers.
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (avx2) return wide ? Isa::Avx512 : Isa::Avx2;
#endif
  return Isa::Portable;
}

Isa lower(Isa isa, Isa limit) { return isa < limit ? isa : limit; }

}  // namespace

Isa choose_isa() {
  const Isa isa = detect();
  const char* asked = std::getenv("NTKSAP_ENGINE_ISA");
  if (asked && std::strcmp(asked, "portable") == 0) return Isa::Portable;
  if (asked && std::strcmp(asked, "avx2") == 0) return lower(isa, Isa::Avx2);
  return isa;
}

const char* isa_name(Isa isa) {
  if (isa == Isa::Avx512) return "avx512";
  if (isa == Isa::Avx2) return "avx2";
#if defined(__aarch64__)
  return "neon";
#else
  return "portable";
#endif
}

}  // namespace ntksap
