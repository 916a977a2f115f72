// A plan in one layout: planes of one image (lanes 1) or sixteen images together (lanes 16).
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "buffers.h"
#include "conv_layer.h"
#include "dispatch.h"
#include "kernels_aux.h"
#include "memory.h"
#include "parallel.h"
#include "tune.h"

namespace ntksap {

struct Kernels {
  const char* isa;
  const ConvKernels* conv;
  const AuxKernels* aux;
};

class Mode {
 public:
  Mode(const Plan& plan, const Kernels& kernels, int lanes);

  // Packs the weights of operators [begin, end) for so many threads, where that has not been done.
  void prepare(size_t begin, size_t end, size_t threads);
  // Memory for so many images at once; each context is one.
  void need_contexts(size_t count);

  void load(uint32_t tensor, const float* src, int64_t first, int64_t images, size_t context, Parallel&);
  void store(uint32_t tensor, float* dst, int64_t first, int64_t images, size_t context, Parallel&);
  void run(size_t begin, size_t end, size_t context, Parallel&);

  bool written_by(uint32_t tensor, size_t op) const { return written_[tensor] <= op; }  // before operator `op`
  bool read_after(uint32_t tensor, size_t op) const { return read_[tensor] > op; }
  const ConvLayer* layer(size_t op) const { return layers_[op].get(); }
  double seconds(size_t op) const { return seconds_[op]; }
  bool prepared(size_t op) const { return prepared_[op] != 0; }

 private:
  struct Context {
    Floats arena;
    std::vector<Scratch> scratch;  // one per thread that works on this context
  };

  void prepare_layer(size_t op, size_t threads);
  void run_op(size_t op, Context&, Parallel&);
  void run_conv(size_t op, Context&, Parallel&);
  void run_split(size_t op, Context&, Parallel&);
  void run_aux(const Op&, Context&, size_t c0, size_t c1);
  float* at(Context& context, uint32_t tensor) { return context.arena.data() + buffers_.offset(buffer_of_[tensor]); }
  bool in_place(size_t op, uint32_t input) const;
  void place_tensors();
  ConvBuffers conv_buffers(size_t op, Context&);

  const Plan& plan_;
  Kernels kernels_;
  std::vector<Layout> layouts_;                     // by tensor
  std::vector<size_t> written_, read_;              // by tensor: number of the operator, counted from 1; 0: an input
  std::vector<std::unique_ptr<ConvLayer>> layers_;  // by operator; null unless a convolution
  std::vector<size_t> prepared_;                    // by operator: for how many threads
  std::vector<size_t> copies_;                      // by operator: number of the buffer of its input's copy
  std::vector<double> seconds_;                     // by operator: of its last run
  std::vector<size_t> buffer_of_;                   // by tensor: number of its buffer
  BufferPlan buffers_;
  std::vector<std::unique_ptr<Context>> contexts_;
};

// Calls task(user, i, lane) for every i < count, each lane on one thread at a time; a lane takes the next task when it
// is done.
void run_tasks(Parallel& parallel, size_t count, void (*task)(void* user, size_t index, size_t lane), void* user);

Kernels kernels_of(Isa isa);
int64_t image_floats(const TensorInfo&);
std::vector<uint32_t> crossing_tensors(const Plan&, size_t cut);
bool layouts_fit(const Plan&, int lanes);  // offsets of all tensors fit 31 bits
void check_layouts(const Plan&);           // throws std::length_error where they do not in planes
std::string describe_modes(const Plan&, const Kernels&, const Mode* planes, const Mode* group, size_t cut);

}  // namespace ntksap
