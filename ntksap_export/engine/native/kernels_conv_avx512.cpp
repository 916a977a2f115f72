// Convolutions for avx512; compiled with that instruction set, called only where dispatch.cpp found it.
#include "conv.h"

#if defined(__AVX512F__)
#include "kernels_conv.inc"

const ntksap::ConvKernels* ntksap::conv_avx512() { return &avx512::kernels; }
#else
const ntksap::ConvKernels* ntksap::conv_avx512() { return nullptr; }
#endif
