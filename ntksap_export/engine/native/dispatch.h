// Which instruction set the engine uses on this CPU.
#pragma once

namespace ntksap {

enum class Isa { Portable, Avx2, Avx512 };

// The richest that the CPU and its operating system have; NTKSAP_ENGINE_ISA=avx2|portable in the environment lowers it.
Isa choose_isa();

const char* isa_name(Isa isa);  // "portable" is "neon" on ARM, where every CPU has it

}  // namespace ntksap
