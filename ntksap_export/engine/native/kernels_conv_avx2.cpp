// Convolutions for avx2; compiled with that instruction set, called only where dispatch.cpp found it.
#include "conv.h"

#if defined(__AVX2__)
#include "kernels_conv.inc"

const ntksap::ConvKernels* ntksap::conv_avx2() { return &avx2::kernels; }
#else
const ntksap::ConvKernels* ntksap::conv_avx2() { return nullptr; }
#endif
