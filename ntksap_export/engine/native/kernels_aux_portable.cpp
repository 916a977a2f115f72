// The kernels beside the convolutions for any CPU: what the compiler makes of vectors without a flag (SSE2, NEON).
#include "kernels_aux.inc"

const ntksap::AuxKernels* ntksap::aux_portable() { return &ntksap::NTKSAP_ISA::kAux; }
