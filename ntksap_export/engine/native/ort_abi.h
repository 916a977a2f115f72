// The part of ONNX Runtime's C interface that the engine uses, declared by ourselves: the library is built without its
// headers and never linked to it. OrtApi is a struct of function pointers to which versions only append, so a function
// is known by the number of its slot; tests/engine/check_ort_abi.py compares numbers, types and the custom op's members
// with onnxruntime_c_api.h. Since onnxruntime 1.17 all of it is there.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ntksap_engine.h"

struct OrtApi;
struct OrtCustomOp;
struct OrtCustomOpDomain;
struct OrtKernelContext;
struct OrtKernelInfo;
struct OrtShapeInferContext;
struct OrtTensorTypeAndShapeInfo;
struct OrtValue;

namespace ntksap {
namespace ort {

constexpr uint32_t kApi = 17;  // the version asked for; every later onnxruntime answers it too

// Enumerations are passed as int. Values of OrtErrorCode, ONNXTensorElementDataType, the characteristic of an input.
constexpr int kFail = 1, kInvalidArgument = 2, kInvalidGraph = 10;
constexpr int kUndefined = 0, kFloat = 1, kUint8 = 2;
constexpr int kVariadic = 2;

struct ApiBase {
  const OrtApi* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

// name, slot, result, parameters
#define NTKSAP_ORT_SLOTS(X)                                                                                        \
  X(CreateStatus, 0, OrtStatus*, (int code, const char* message))                                                  \
  X(CreateCustomOpDomain, 26, OrtStatus*, (const char* domain, OrtCustomOpDomain** out))                           \
  X(CustomOpDomain_Add, 27, OrtStatus*, (OrtCustomOpDomain * domain, const OrtCustomOp* op))                       \
  X(AddCustomOpDomain, 28, OrtStatus*, (OrtSessionOptions * options, OrtCustomOpDomain * domain))                  \
  X(GetTensorMutableData, 51, OrtStatus*, (OrtValue * value, void** out))                                          \
  X(GetTensorElementType, 60, OrtStatus*, (const OrtTensorTypeAndShapeInfo* info, int* out))                       \
  X(GetDimensionsCount, 61, OrtStatus*, (const OrtTensorTypeAndShapeInfo* info, size_t* out))                      \
  X(GetDimensions, 62, OrtStatus*, (const OrtTensorTypeAndShapeInfo* info, int64_t* values, size_t count))         \
  X(GetTensorTypeAndShape, 65, OrtStatus*, (const OrtValue* value, OrtTensorTypeAndShapeInfo** out))               \
  X(KernelContext_GetInput, 90, OrtStatus*, (const OrtKernelContext* context, size_t index, const OrtValue** out)) \
  X(KernelContext_GetOutput, 91, OrtStatus*,                                                                       \
    (OrtKernelContext * context, size_t index, const int64_t* dims, size_t rank, OrtValue** out))                  \
  X(ReleaseStatus, 93, void, (OrtStatus * status))                                                                 \
  X(ReleaseTensorTypeAndShapeInfo, 99, void, (OrtTensorTypeAndShapeInfo * info))                                   \
  X(AddSessionConfigEntry, 130, OrtStatus*, (OrtSessionOptions * options, const char* key, const char* value))     \
  X(HasSessionConfigEntry, 237, OrtStatus*, (const OrtSessionOptions* options, const char* key, int* out))         \
  X(KernelInfo_GetInputCount, 230, OrtStatus*, (const OrtKernelInfo* info, size_t* out))                           \
  X(KernelInfo_GetOutputCount, 231, OrtStatus*, (const OrtKernelInfo* info, size_t* out))                          \
  X(KernelInfoGetConstantInput_tensor, 249, OrtStatus*,                                                            \
    (const OrtKernelInfo* info, size_t index, int* is_constant, const OrtValue** out))                             \
  X(KernelContext_ParallelFor, 274, OrtStatus*,                                                                    \
    (const OrtKernelContext* context, void (*task)(void*, size_t), size_t total, size_t batches, void* user))

// `CreateStatus_t` is the type of a slot, `call.CreateStatus(api)` what is in it.
#define NTKSAP_ORT_DECLARE(name, slot, result, parameters)                        \
  using name##_t = result(*) parameters;                                          \
  constexpr size_t name##_slot = slot;                                            \
  inline name##_t name(const OrtApi* api) {                                       \
    return reinterpret_cast<name##_t>(reinterpret_cast<void* const*>(api)[slot]); \
  }
NTKSAP_ORT_SLOTS(NTKSAP_ORT_DECLARE)

// A custom operator as onnxruntime reads it, layout of version 17 to 21. Members that `version` 17 does not have stay
// null.
#define NTKSAP_ORT_OP_MEMBERS(X)                                                                   \
  X(CreateKernel, void*, (const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*))                \
  X(GetName, const char*, (const OrtCustomOp*))                                                    \
  X(GetExecutionProviderType, const char*, (const OrtCustomOp*))                                   \
  X(GetInputType, int, (const OrtCustomOp*, size_t))                                               \
  X(GetInputTypeCount, size_t, (const OrtCustomOp*))                                               \
  X(GetOutputType, int, (const OrtCustomOp*, size_t))                                              \
  X(GetOutputTypeCount, size_t, (const OrtCustomOp*))                                              \
  X(KernelCompute, void, (void*, OrtKernelContext*))                                               \
  X(KernelDestroy, void, (void*))                                                                  \
  X(GetInputCharacteristic, int, (const OrtCustomOp*, size_t))                                     \
  X(GetOutputCharacteristic, int, (const OrtCustomOp*, size_t))                                    \
  X(GetInputMemoryType, int, (const OrtCustomOp*, size_t))                                         \
  X(GetVariadicInputMinArity, int, (const OrtCustomOp*))                                           \
  X(GetVariadicInputHomogeneity, int, (const OrtCustomOp*))                                        \
  X(GetVariadicOutputMinArity, int, (const OrtCustomOp*))                                          \
  X(GetVariadicOutputHomogeneity, int, (const OrtCustomOp*))                                       \
  X(CreateKernelV2, OrtStatus*, (const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*, void**)) \
  X(KernelComputeV2, OrtStatus*, (void*, OrtKernelContext*))                                       \
  X(InferOutputShapeFn, OrtStatus*, (const OrtCustomOp*, OrtShapeInferContext*))                   \
  X(GetStartVersion, int, (const OrtCustomOp*))                                                    \
  X(GetEndVersion, int, (const OrtCustomOp*))                                                      \
  X(GetMayInplace, size_t, (int**, int**))                                                         \
  X(ReleaseMayInplace, void, (int*, int*))                                                         \
  X(GetAliasMap, size_t, (int**, int**))                                                           \
  X(ReleaseAliasMap, void, (int*, int*))

#define NTKSAP_ORT_MEMBER(name, result, parameters) result(*name) parameters = nullptr;
struct CustomOp {
  uint32_t version = kApi;
  NTKSAP_ORT_OP_MEMBERS(NTKSAP_ORT_MEMBER)
};

}  // namespace ort
}  // namespace ntksap
