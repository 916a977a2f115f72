// The kernels beside the convolutions, compiled for AVX2 and FMA.
#if defined(__AVX2__) && defined(__FMA__) && !defined(__AVX512F__)
#include "kernels_aux.inc"

const ntksap::AuxKernels* ntksap::aux_avx2() { return &ntksap::avx2::kAux; }
#else
#include "kernels_aux.h"

const ntksap::AuxKernels* ntksap::aux_avx2() { return nullptr; }
#endif
