// One convolution of a plan in one layout: its weights in the form that was chosen, dealt out in tasks.
#pragma once

#include <string>

#include "conv.h"
#include "conv_forms.h"
#include "geometry.h"
#include "memory.h"

namespace ntksap {

// What a thread needs beside the tensors.
struct Scratch {
  Floats packed, partial, gathered;
};

struct ConvBuffers {
  const float* source;    // the input, or its copy (Split)
  const float* residual;  // or null
  float* out;
};

class ConvLayer {
 public:
  // `op` and its weights must outlive the layer.
  ConvLayer(const Op& op, const TensorInfo& in, const TensorInfo& out, const Layout& from, const Layout& to,
            const ConvKernels& kernels);

  const ConvGeometry& geometry() const { return geometry_; }
  double density() const;
  uint64_t nonzeros() const { return nnz_; }
  bool vector_shaped() const { return to_.lanes == 1 && geometry_.reading == Reading::Gathered; }
  bool grouped() const;
  const Layout& output() const { return to_; }
  const Choice& choice() const { return choice_; }
  size_t parts() const { return parts_; }
  const std::vector<Place>& tiles() const { return tiles_; }
  const Op& op() const { return op_; }

  // Packs the weights; rows are dealt out in `parts`, tiles of a flat plane in a multiple of `multiple`. What was
  // packed before goes.
  void prepare(const Choice& choice, size_t parts, size_t multiple);

  // Nothing else will be prepared for now: what that needs goes.
  void settle() { entries_ = Entries(); }

  // Tasks of the chosen form; each may run on any thread with a scratch of its own.
  size_t tasks() const;
  int64_t weight_of(size_t task) const;  // about how much work it is, to compare tasks of this layer
  void run(size_t task, const ConvBuffers&, Scratch&) const;
  void reserve(Scratch&) const;
  uint64_t bytes() const;

  std::string kernel() const;  // in words

 private:
  void run_tile(const Place&, size_t part, const ConvBuffers&, Scratch&) const;
  void run_vector(size_t part, const ConvBuffers&, Scratch&) const;
  Tile tile_for(const Place&, const ConvBuffers&, Scratch&) const;
  const Entries& entries();
  void prepare_vector();

  const Op& op_;
  TensorInfo in_;
  Layout from_, to_;
  const ConvKernels& kernels_;
  ConvGeometry geometry_;
  uint64_t nnz_ = 0;
  uint64_t widest_row_ = 0;
  Census census_;
  Entries entries_;  // while there is something to prepare
  std::vector<uint16_t> masks_;
  std::vector<float> bias_;
  Choice choice_;
  size_t parts_ = 0;
  std::vector<Place> tiles_;
  std::vector<uint32_t> cuts_;  // rows where parts begin, and the end
  std::vector<SparseForm> sparse_;
  std::vector<DenseForm> dense_;
  Entries vector_entries_;
  std::vector<float> vector_dense_;
  const float* vector_weights_ = nullptr;  // these, or the plan's own
};

}  // namespace ntksap
