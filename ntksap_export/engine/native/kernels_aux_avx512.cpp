// The kernels beside the convolutions, compiled for AVX-512.
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#include "kernels_aux.inc"

const ntksap::AuxKernels* ntksap::aux_avx512() { return &ntksap::avx512::kAux; }
#else
#include "kernels_aux.h"

const ntksap::AuxKernels* ntksap::aux_avx512() { return nullptr; }
#endif
