// Convolutions for any CPU: what the compiler makes of vectors without being told of an instruction set.
#include "kernels_conv.inc"

const ntksap::ConvKernels* ntksap::conv_portable() { return &portable::kernels; }
