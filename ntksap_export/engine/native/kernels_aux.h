// What runs beside the convolutions, for one instruction set. Each works on the channels [c0, c1) of its output, so
// that the caller can deal channels out to threads, and writes all of these channels: margins and gaps of the output
// become zero, whatever was there. Lanes are the layouts'. In place only add, multiply and activate, where all have one
// layout.
#pragma once

#include "layout.h"
#include "plan.h"

namespace ntksap {

struct AuxKernels {
  // Caller's images to the engine's layout and back. Lanes 1: one image (C, H, W). Lanes 16: `images` of them (1 to
  // 16), the n-th at src + n * image_stride; lanes without an image become zero. All of a channel is written, margins
  // too.
  void (*load)(const float* src, int64_t image_stride, int images, float* dst, const Layout& to, int c0, int c1);
  void (*store)(const float* src, const Layout& from, float* dst, int64_t image_stride, int images, int c0, int c1);
  void (*pool)(const float* src, const Layout& from, float* dst, const Layout& to, const Window&, PoolMode, int c0,
               int c1);
  void (*global_pool)(const float* src, const Layout& from, float* dst, const Layout& to, PoolMode, int c0, int c1);
  // Two inputs of the output's shape (add; multiply with each = true), or the second (C, 1, 1).
  void (*add)(const float* a, const Layout& la, const float* b, const Layout& lb, float* dst, const Layout& to,
              Activation, int c0, int c1);
  void (*multiply)(const float* a, const Layout& la, const float* b, const Layout& lb, float* dst, const Layout& to,
                   Activation, int c0, int c1);
  void (*activate)(const float* src, const Layout& from, float* dst, const Layout& to, Activation, int c0, int c1);
  // One input of a concatenation: its channel c, in [c0, c1), to the output's channel at + c.
  void (*copy)(const float* src, const Layout& from, float* dst, const Layout& to, int at, int c0, int c1);
  void (*flatten)(const float* src, const Layout& from, float* dst, const Layout& to, int c0,
                  int c1);  // channels of src
  // Makes margins and gaps zero (after kernels that write rows only).
  void (*clear_margins)(float* dst, const Layout&, int c0, int c1);
};

const AuxKernels* aux_avx512();  // null where the compiler could not make it
const AuxKernels* aux_avx2();
const AuxKernels* aux_portable();

}  // namespace ntksap
