// The engine's executor: a plan in two layouts (images one by one in planes, or sixteen together), what each operator
// runs on there, and the order in which images go through.
#include "executor.h"

#include <algorithm>
#include <thread>

#include "dispatch.h"
#include "mode.h"

namespace ntksap {

namespace {

constexpr int64_t kGroup = kVector;     // images that go together
constexpr int64_t kSmallestGroup = 8;   // fewer go one by one
constexpr uint64_t kWidePlane = 8 * 8;  // larger planes go one by one: sixteen of them together do not fit the caches

// The first operator from which on no plane is wide: what stands before runs image by image.
size_t cut_of(const Plan& plan) {
  size_t cut = 0;
  for (size_t i = 0; i < plan.ops.size(); ++i) {
    const TensorInfo& out = plan.tensors[plan.ops[i].output];
    if (uint64_t(out.height) * out.width > kWidePlane) cut = i + 1;
  }
  return cut;
}

class EngineExecutor final : public Executor {
 public:
  explicit EngineExecutor(const Plan& plan) : plan_(plan), kernels_(kernels_of(choose_isa())) {
    cut_ = cut_of(plan_);
    crossing_ = crossing_tensors(plan_, cut_);
    planes_ = std::make_unique<Mode>(plan_, kernels_, 1);
    planes_->prepare(0, plan_.ops.size(),
                     std::max(1u, std::thread::hardware_concurrency()));  // as most sessions will ask for
  }

  // Where memory runs out, what was made so far goes: the next run begins anew.
  void run(const float* const* inputs, float* const* outputs, int64_t batch, Parallel& parallel) override {
    try {
      run_batch(inputs, outputs, batch, parallel);
    } catch (...) {
      planes_.reset();
      group_.reset();
      staging_ = Floats();
      staging_at_.clear();
      throw;
    }
  }

  std::string describe() const override { return describe_modes(plan_, kernels_, planes_.get(), group_.get(), cut_); }

 private:
  void run_batch(const float* const* inputs, float* const* outputs, int64_t batch, Parallel& parallel) {
    int64_t done = 0;
    while (batch - done >= kSmallestGroup && groups_fit()) {
      const int64_t images = std::min(kGroup, batch - done);
      run_group(inputs, outputs, done, images, parallel);
      done += images;
    }
    run_images(inputs, outputs, done, batch - done, 0, plan_.ops.size(), parallel);
  }

  bool groups_fit() {
    if (!fits_known_) fits_ = layouts_fit(plan_, kVector);
    fits_known_ = true;
    return fits_;
  }

  Mode& planes(size_t begin, size_t end, Parallel& parallel) { return ready(planes_, 1, begin, end, parallel); }

  Mode& ready(std::unique_ptr<Mode>& mode, int lanes, size_t begin, size_t end, Parallel& parallel) {
    if (!mode) mode = std::make_unique<Mode>(plan_, kernels_, lanes);
    mode->prepare(begin, end, parallel.lanes);
    return *mode;
  }

  // Operators [begin, end) for images [first, first + count), each in planes.
  void run_images(const float* const* inputs, float* const* outputs, int64_t first, int64_t count, size_t begin,
                  size_t end, Parallel& parallel) {
    if (count == 0 || begin == end) return;
    Mode& mode = planes(begin, end, parallel);
    const int64_t lanes = int64_t(parallel.lanes);
    const int64_t together = lanes > 1 ? count / lanes * lanes : 0;  // one image per lane at a time
    if (together) {
      ImageLoop loop{this, &mode, inputs, outputs, first, begin, end};
      mode.need_contexts(parallel.lanes);
      run_tasks(
          parallel, size_t(together),
          [](void* user, size_t task, size_t lane) {
            ImageLoop& l = *static_cast<ImageLoop*>(user);
            Serial serial;
            l.self->run_image(*l.mode, l.inputs, l.outputs, l.first + int64_t(task), l.begin, l.end, lane, serial);
          },
          &loop);
    }
    mode.need_contexts(parallel.lanes);
    for (int64_t i = together; i < count; ++i) run_image(mode, inputs, outputs, first + i, begin, end, 0, parallel);
  }

  struct ImageLoop {
    EngineExecutor* self;
    Mode* mode;
    const float* const* inputs;
    float* const* outputs;
    int64_t first;
    size_t begin, end;
  };

  void run_image(Mode& mode, const float* const* inputs, float* const* outputs, int64_t image, size_t begin, size_t end,
                 size_t context, Parallel& parallel) {
    for (size_t i = 0; i < plan_.inputs.size(); ++i) mode.load(plan_.inputs[i], inputs[i], image, 1, context, parallel);
    mode.run(begin, end, context, parallel);
    for (size_t i = 0; i < plan_.outputs.size(); ++i)
      if (mode.written_by(plan_.outputs[i], end)) mode.store(plan_.outputs[i], outputs[i], image, 1, context, parallel);
    if (end == plan_.ops.size()) return;
    for (size_t i = 0; i < crossing_.size(); ++i)
      mode.store(crossing_[i], staged(i), image - staged_first_, 1, context, parallel);
  }

  float* staged(size_t i) { return staging_.data() + staging_at_[i]; }

  void run_group(const float* const* inputs, float* const* outputs, int64_t first, int64_t images, Parallel& parallel) {
    if (cut_ > 0) {
      stage();
      staged_first_ = first;
      run_images(inputs, outputs, first, images, 0, cut_, parallel);
    }
    Mode& mode = ready(group_, kVector, cut_, plan_.ops.size(), parallel);
    mode.need_contexts(1);
    for (size_t i = 0; i < crossing_.size(); ++i) mode.load(crossing_[i], staged(i), 0, images, 0, parallel);
    for (size_t i = 0; i < plan_.inputs.size(); ++i)
      if (mode.read_after(plan_.inputs[i], cut_)) mode.load(plan_.inputs[i], inputs[i], first, images, 0, parallel);
    mode.run(cut_, plan_.ops.size(), 0, parallel);
    for (size_t i = 0; i < plan_.outputs.size(); ++i)
      if (!mode.written_by(plan_.outputs[i], cut_))
        mode.store(plan_.outputs[i], outputs[i], first, images, 0, parallel);
  }

  void stage() {
    if (!staging_at_.empty() || crossing_.empty()) return;
    int64_t floats = 0;
    for (const uint32_t id : crossing_) {
      staging_at_.push_back(floats);
      floats += kGroup * image_floats(plan_.tensors[id]);
    }
    staging_.reserve(floats + kVector);
  }

  Plan plan_;
  Kernels kernels_;
  size_t cut_ = 0;
  std::vector<uint32_t> crossing_;  // tensors written before the cut and read after it
  std::unique_ptr<Mode> planes_, group_;
  Floats staging_;
  std::vector<int64_t> staging_at_;
  int64_t staged_first_ = 0;
  bool fits_known_ = false, fits_ = false;
};

}  // namespace

std::unique_ptr<Executor> Executor::create(const Plan& plan) {
  check_layouts(plan);
  return std::make_unique<EngineExecutor>(plan);
}

}  // namespace ntksap
