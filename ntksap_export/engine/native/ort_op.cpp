// The custom operator ntksap_export::SparseBody, version 1, of ONNX Runtime: inputs x1, ..., xn (float32) and the plan
// (uint8, a constant initializer), outputs float32. The plan is read once, when the session is made; the work is done
// on the session's own threads. Output shapes are not inferred, for an operator cannot see its constants there: the
// converter writes them into the graph.
#include <climits>
#include <cstring>
#include <map>
#include <mutex>

#include "handle.h"
#include "ort_abi.h"
#include "ort_threads.h"

namespace ntksap {
namespace {

constexpr char kDomain[] = "ntksap_export", kName[] = "SparseBody";

// A failed call of onnxruntime's: its status goes back to it as it is.
struct OrtFailure {
  OrtStatus* status;
};

void check(OrtStatus* status) {
  if (status) throw OrtFailure{status};
}

[[noreturn]] void fail(int code, const std::string& reason) { throw Failure{code, reason}; }

// Codes of ntksap_engine.h as codes of onnxruntime.
int ort_code(int code) {
  return code == NTKSAP_MALFORMED ? ort::kInvalidGraph : code == NTKSAP_FAILED ? ort::kInvalidArgument : ort::kFail;
}

// Calls what may throw; null, or a status that begins with the operator's name.
template <typename Call>
OrtStatus* answered(const OrtApi* api, Call&& call) noexcept {
  char reason[600] = "ntksap_export.SparseBody: ";
  const size_t named = std::strlen(reason);
  OrtStatus* status = nullptr;
  const int code = guarded(reason + named, sizeof reason - named, [&] {
    try {
      call();
    } catch (const OrtFailure& failure) {
      status = failure.status;
    }
  });
  return code == NTKSAP_OK ? status : ort::CreateStatus(api)(ort_code(code), reason);
}

struct Value {
  int type;
  std::vector<int64_t> dims;
};

Value look_at(const OrtApi* api, const OrtValue* value) {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  check(ort::GetTensorTypeAndShape(api)(value, &info));
  const std::unique_ptr<OrtTensorTypeAndShapeInfo, ort::ReleaseTensorTypeAndShapeInfo_t> held(
      info, ort::ReleaseTensorTypeAndShapeInfo(api));
  Value seen{};
  size_t rank = 0;
  check(ort::GetTensorElementType(api)(info, &seen.type));
  check(ort::GetDimensionsCount(api)(info, &rank));
  seen.dims.resize(rank);
  check(ort::GetDimensions(api)(info, seen.dims.data(), rank));
  return seen;
}

void* data_of(const OrtApi* api, const OrtValue* value) {
  void* data = nullptr;
  check(ort::GetTensorMutableData(api)(const_cast<OrtValue*>(value), &data));
  return data;
}

std::string spelled(const std::vector<int64_t>& dims) {
  std::string text;
  for (const int64_t dim : dims) text += (text.empty() ? "" : " x ") + std::to_string(dim);
  return text.empty() ? "a scalar" : text;
}

std::vector<int64_t> dims_of(const TensorInfo& tensor, int64_t batch) {
  if (tensor.rank == 2) return {batch, tensor.channels};
  return {batch, tensor.channels, tensor.height, tensor.width};
}

std::string wanted(const TensorInfo& tensor) {
  std::vector<int64_t> dims = dims_of(tensor, 0);
  return "N" + spelled(dims).substr(1);
}

class Kernel {
 public:
  Kernel(const OrtApi* api, const OrtKernelInfo* info) : api_(api) {
    size_t inputs = 0, outputs = 0;
    check(ort::KernelInfo_GetInputCount(api)(info, &inputs));
    check(ort::KernelInfo_GetOutputCount(api)(info, &outputs));
    const OrtValue* value = constant(info, inputs - 1);
    const Value bytes = look_at(api, value);
    if (bytes.type != ort::kUint8 || bytes.dims.size() != 1)
      fail(NTKSAP_MALFORMED, "its last input, the plan, must be a row of uint8 (element type 2); got element type " +
                                 std::to_string(bytes.type) + " of shape " + spelled(bytes.dims));
    plan_ = make_plan(data_of(api, value), uint64_t(bytes.dims[0]), true);  // initializers live as long as the session
    if (plan_->inputs.size() != inputs - 1 || plan_->outputs.size() != outputs)
      fail(NTKSAP_MALFORMED, "the node has " + std::to_string(inputs - 1) + " inputs beside the plan and " +
                                 std::to_string(outputs) + " outputs, the plan has " +
                                 std::to_string(plan_->inputs.size()) + " and " +
                                 std::to_string(plan_->outputs.size()));
  }

  void compute(OrtKernelContext* context) {
    std::vector<const float*> inputs;
    const int64_t batch = read_inputs(context, inputs);
    std::vector<float*> outputs;
    for (size_t i = 0; i < plan_->outputs.size(); ++i) outputs.push_back(make_output(context, i, batch));
    if (batch == 0) return;
    const std::lock_guard<std::mutex> one_at_a_time(mutex_);
    SessionThreads threads(api_, context, lanes_);
    Call call{plan_->executor.get(), inputs.data(), outputs.data(), batch, &threads};
    threads.lead(
        [](void* user) {
          const Call& c = *static_cast<Call*>(user);
          c.executor->run(c.inputs, c.outputs, c.batch, *c.threads);
        },
        &call);
  }

  const OrtApi* api() const { return api_; }

 private:
  struct Call {
    Executor* executor;
    const float* const* inputs;
    float* const* outputs;
    int64_t batch;
    Parallel* threads;
  };

  const OrtValue* constant(const OrtKernelInfo* info, size_t index) const {
    int is_constant = 0;
    const OrtValue* value = nullptr;
    check(ort::KernelInfoGetConstantInput_tensor(api_)(info, index, &is_constant, &value));
    if (!is_constant || !value)
      fail(NTKSAP_MALFORMED, "its last input, the plan, must be an initializer that no input of the graph replaces");
    return value;
  }

  int64_t read_inputs(OrtKernelContext* context, std::vector<const float*>& inputs) const {
    int64_t batch = 0;
    for (size_t i = 0; i < plan_->inputs.size(); ++i) {
      const OrtValue* value = nullptr;
      check(ort::KernelContext_GetInput(api_)(context, i, &value));
      const Value seen = look_at(api_, value);
      const std::string name = "input " + std::to_string(i);
      if (seen.type != ort::kFloat)
        fail(NTKSAP_FAILED, name + " must be float32 (element type 1); got element type " + std::to_string(seen.type));
      if (seen.dims.empty() || seen.dims != dims_of(plan_->inputs[i], seen.dims[0]))
        fail(NTKSAP_FAILED, name + " is " + spelled(seen.dims) + ", the plan was made for " + wanted(plan_->inputs[i]));
      if (i == 0) batch = seen.dims[0];
      if (seen.dims[0] != batch)
        fail(NTKSAP_FAILED,
             name + " holds " + std::to_string(seen.dims[0]) + " images, input 0 " + std::to_string(batch));
      inputs.push_back(static_cast<const float*>(data_of(api_, value)));
    }
    return batch;
  }

  float* make_output(OrtKernelContext* context, size_t index, int64_t batch) const {
    const std::vector<int64_t> dims = dims_of(plan_->outputs[index], batch);
    OrtValue* value = nullptr;
    check(ort::KernelContext_GetOutput(api_)(context, index, dims.data(), dims.size(), &value));
    return static_cast<float*>(data_of(api_, value));
  }

  const OrtApi* api_;
  std::unique_ptr<ntksap_plan> plan_;
  std::mutex mutex_;  // onnxruntime may run one session from several threads at once
  Lanes lanes_;
};

OrtStatus* create(const OrtCustomOp*, const OrtApi* api, const OrtKernelInfo* info, void** kernel) {
  return answered(api, [&] { *kernel = new Kernel(api, info); });
}

OrtStatus* compute(void* kernel, OrtKernelContext* context) {
  Kernel* self = static_cast<Kernel*>(kernel);
  return answered(self->api(), [&] { self->compute(context); });
}

ort::CustomOp make_op() {
  ort::CustomOp op;
  op.GetName = [](const OrtCustomOp*) -> const char* { return kName; };
  op.GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };  // the CPU's
  op.GetInputType = [](const OrtCustomOp*, size_t) { return ort::kUndefined; };             // float32 and uint8: any
  op.GetInputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
  op.GetOutputType = [](const OrtCustomOp*, size_t) { return ort::kFloat; };
  op.GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
  op.KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  op.GetInputCharacteristic = op.GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return ort::kVariadic; };
  op.GetInputMemoryType = [](const OrtCustomOp*, size_t) { return 0; };
  op.GetVariadicInputMinArity = [](const OrtCustomOp*) { return 2; };
  op.GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 0; };
  op.GetVariadicOutputMinArity = op.GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
  op.CreateKernelV2 = create;
  op.KernelComputeV2 = compute;
  op.GetStartVersion = [](const OrtCustomOp*) { return 1; };
  op.GetEndVersion = [](const OrtCustomOp*) { return INT_MAX; };
  return op;
}

// One domain per onnxruntime in the process, made by its first session and used by all: sessions only point to it. It
// is left behind when the library is unloaded, for then that onnxruntime may be gone already.
OrtCustomOpDomain* domain_of(const ort::ApiBase* base, const OrtApi* api) {
  static std::mutex mutex;
  static std::map<const ort::ApiBase*, OrtCustomOpDomain*> domains;
  static const ort::CustomOp op = make_op();
  const std::lock_guard<std::mutex> lock(mutex);
  OrtCustomOpDomain*& domain = domains[base];
  if (domain) return domain;
  OrtCustomOpDomain* made = nullptr;
  check(ort::CreateCustomOpDomain(api)(kDomain, &made));
  check(ort::CustomOpDomain_Add(api)(made, reinterpret_cast<const OrtCustomOp*>(&op)));
  return domain = made;
}

// A session refuses a domain that its options hold twice, so an entry in the options says that ours is there.
void add_to(OrtSessionOptions* options, const ort::ApiBase* base, const OrtApi* api) {
  int there = 0;
  check(ort::HasSessionConfigEntry(api)(options, kDomain, &there));
  if (there) return;
  check(ort::AddCustomOpDomain(api)(options, domain_of(base, api)));
  check(ort::AddSessionConfigEntry(api)(options, kDomain, "1"));
}

}  // namespace
}  // namespace ntksap

extern "C" OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* given) {
  using namespace ntksap;
  const auto* base = reinterpret_cast<const ort::ApiBase*>(given);
  const OrtApi* api = base->GetApi(ort::kApi);
  if (!api) {
    // Creating a status is slot 0 of every version; without any version nothing can be said.
    const OrtApi* oldest = base->GetApi(1);
    return oldest ? ort::CreateStatus(oldest)(
                        ort::kFail, "the sparse engine needs onnxruntime 1.17 or newer; use model.onnx, or upgrade")
                  : nullptr;
  }
  return answered(api, [&] { add_to(options, base, api); });
}
