// More slots of ONNX Runtime's C interface: what a program that opens and runs a session needs (outside.cpp). Compared
// with onnxruntime's header by check_ort_abi.py, like those of the library.
#pragma once

#include "ort_abi.h"

struct OrtEnv;
struct OrtSession;
struct OrtRunOptions;
struct OrtMemoryInfo;

namespace ntksap {
namespace ort {

constexpr int kArena = 1, kWarning = 2;  // OrtAllocatorType, OrtLoggingLevel

#define NTKSAP_ORT_CLIENT_SLOTS(X)                                                                                       \
  X(GetErrorMessage, 2, const char*, (const OrtStatus* status))                                                          \
  X(CreateEnv, 3, OrtStatus*, (int level, const char* name, OrtEnv** out))                                               \
  X(CreateSession, 7, OrtStatus*, (const OrtEnv* env, const char* path, const OrtSessionOptions* options, OrtSession** out)) \
  X(Run, 9, OrtStatus*,                                                                                                  \
    (OrtSession * session, const OrtRunOptions* options, const char* const* input_names, const OrtValue* const* inputs,  \
     size_t n_inputs, const char* const* output_names, size_t n_outputs, OrtValue** outputs))                            \
  X(CreateSessionOptions, 10, OrtStatus*, (OrtSessionOptions * *out))                                                    \
  X(SetIntraOpNumThreads, 24, OrtStatus*, (OrtSessionOptions * options, int threads))                                    \
  X(CreateTensorWithDataAsOrtValue, 49, OrtStatus*,                                                                      \
    (const OrtMemoryInfo* info, void* data, size_t bytes, const int64_t* shape, size_t rank, int type, OrtValue** out))  \
  X(GetTensorShapeElementCount, 64, OrtStatus*, (const OrtTensorTypeAndShapeInfo* info, size_t* out))                    \
  X(CreateCpuMemoryInfo, 69, OrtStatus*, (int allocator, int memory, OrtMemoryInfo** out))                               \
  X(ReleaseEnv, 92, void, (OrtEnv * env))                                                                                \
  X(ReleaseMemoryInfo, 94, void, (OrtMemoryInfo * info))                                                                 \
  X(ReleaseSession, 95, void, (OrtSession * session))                                                                    \
  X(ReleaseValue, 96, void, (OrtValue * value))                                                                          \
  X(ReleaseSessionOptions, 100, void, (OrtSessionOptions * options))                                                     \
  X(RegisterCustomOpsLibrary_V2, 228, OrtStatus*, (OrtSessionOptions * options, const char* path))

NTKSAP_ORT_CLIENT_SLOTS(NTKSAP_ORT_DECLARE)

}  // namespace ort
}  // namespace ntksap
