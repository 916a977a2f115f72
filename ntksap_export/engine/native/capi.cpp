// The C interface (ntksap_engine.h) over the parser, the executor and the pool. No exception crosses it.
#include <algorithm>
#include <cstring>

#include "dispatch.h"
#include "handle.h"

namespace ntksap {
namespace {

constexpr size_t kMaxThreads = 1024;

void need(bool holds, const char* reason) {
  if (!holds) throw Failure{NTKSAP_FAILED, reason};
}

std::vector<TensorInfo> shapes_of(const Plan& plan, const std::vector<uint32_t>& ids) {
  std::vector<TensorInfo> shapes;
  for (const uint32_t id : ids) shapes.push_back(plan.tensors[id]);
  return shapes;
}

// Any address will do for a caller; the parser wants a multiple of 4.
std::vector<uint32_t> aligned_copy(const void* bytes, uint64_t size) {
  std::vector<uint32_t> copy(size / 4 + 1);
  std::memcpy(copy.data(), bytes, size);
  return copy;
}

void check_run(const ntksap_plan* plan, const float* const* inputs, float* const* outputs, int64_t batch) {
  need(plan && inputs && outputs, "a null pointer in place of the plan, its inputs or its outputs");
  need(batch >= 0, "the batch is negative");
  if (batch == 0) return;
  for (size_t i = 0; i < plan->inputs.size(); ++i) need(inputs[i], "a null pointer in place of an input");
  for (size_t i = 0; i < plan->outputs.size(); ++i) need(outputs[i], "a null pointer in place of an output");
}

Pool& pool_of(ntksap_plan& plan, size_t threads) {
  if (plan.pool && plan.pool->foreign()) (void)plan.pool.release();  // of the parent process: see pool.h
  if (!plan.pool || plan.pool->lanes != threads) plan.pool.reset(new Pool(threads));
  return *plan.pool;
}

size_t threads_asked(int threads) {
  need(threads >= 0, "the number of threads is negative");
  if (threads == 0) return std::max(1u, std::thread::hardware_concurrency());
  return std::min(size_t(threads), kMaxThreads);
}

// A caller's own pool.
struct Foreign final : Parallel {
  ntksap_parallel_for parallel_for;
  void* pool;

  void run(size_t count, void (*task)(void*, size_t), void* user) override { parallel_for(pool, task, count, user); }
};

}  // namespace

std::unique_ptr<ntksap_plan> make_plan(const void* bytes, uint64_t size, bool keeps) {
  auto made = std::make_unique<ntksap_plan>();
  if (bytes && (!keeps || reinterpret_cast<uintptr_t>(bytes) % 4 != 0)) made->bytes = aligned_copy(bytes, size);
  Plan plan;
  const std::string reason = parse_plan(made->bytes.empty() ? bytes : made->bytes.data(), size, plan);
  if (!reason.empty()) throw Failure{NTKSAP_MALFORMED, reason};
  made->inputs = shapes_of(plan, plan.inputs);
  made->outputs = shapes_of(plan, plan.outputs);
  made->executor = Executor::create(plan);
  return made;
}

}  // namespace ntksap

using namespace ntksap;

extern "C" {

uint32_t ntksap_abi_version(void) { return 1; }

const char* ntksap_isa(void) { return isa_name(choose_isa()); }

int ntksap_create(const void* bytes, uint64_t size, ntksap_plan** plan, char* error, size_t error_size) {
  return guarded(error, error_size, [&] {
    need(plan, "a null pointer in place of where the plan goes");
    *plan = nullptr;
    *plan = make_plan(bytes, size, false).release();
  });
}

int ntksap_run(ntksap_plan* plan, const float* const* inputs, float* const* outputs, int64_t batch, int threads,
               char* error, size_t error_size) {
  return guarded(error, error_size, [&] {
    check_run(plan, inputs, outputs, batch);
    const size_t lanes = threads_asked(threads);
    if (batch == 0) return;
    Serial alone;
    if (lanes == 1) return plan->executor->run(inputs, outputs, batch, alone);
    plan->executor->run(inputs, outputs, batch, pool_of(*plan, lanes));
  });
}

int ntksap_run_on(ntksap_plan* plan, const float* const* inputs, float* const* outputs, int64_t batch, size_t lanes,
                  ntksap_parallel_for parallel_for, void* pool, char* error, size_t error_size) {
  return guarded(error, error_size, [&] {
    check_run(plan, inputs, outputs, batch);
    need(parallel_for, "a null pointer in place of parallel_for");
    if (batch == 0) return;
    Foreign foreign;
    foreign.lanes = std::max<size_t>(lanes, 1);
    foreign.parallel_for = parallel_for;
    foreign.pool = pool;
    plan->executor->run(inputs, outputs, batch, foreign);
  });
}

void ntksap_destroy(ntksap_plan* plan) {
  if (plan && plan->pool && plan->pool->foreign()) (void)plan->pool.release();
  delete plan;
}

int ntksap_plan_io(const ntksap_plan* plan, uint32_t* n_inputs, uint32_t* n_outputs) {
  if (!plan || !n_inputs || !n_outputs) return NTKSAP_FAILED;
  *n_inputs = uint32_t(plan->inputs.size());
  *n_outputs = uint32_t(plan->outputs.size());
  return NTKSAP_OK;
}

int ntksap_plan_tensor(const ntksap_plan* plan, int is_output, uint32_t index, uint32_t chwr[4]) {
  if (!plan || !chwr) return NTKSAP_FAILED;
  const std::vector<TensorInfo>& shapes = is_output ? plan->outputs : plan->inputs;
  if (index >= shapes.size()) return NTKSAP_FAILED;
  const TensorInfo& shape = shapes[index];
  const uint32_t numbers[4] = {shape.channels, shape.height, shape.width, shape.rank};
  std::memcpy(chwr, numbers, sizeof numbers);
  return NTKSAP_OK;
}

const char* ntksap_describe(ntksap_plan* plan) {
  const int code = guarded(nullptr, 0, [&] {
    need(plan, "no plan");
    plan->description = plan->executor->describe();
  });
  return code == NTKSAP_OK ? plan->description.c_str() : "{}";
}

}  // extern "C"
