// A C++ program that knows nothing of Python and of this package but its shared library.
//
//   outside plan LIBRARY PLAN IMAGES OUT THREADS BATCH
//     runs a plan through the library's own C interface (ntksap_engine.h), first output to OUT
//   outside ort LIBRARY MODEL IMAGES OUT THREADS BATCH C H W LIBONNXRUNTIME
//     runs a model in an onnxruntime session that has the library registered; graph input x0, output y0
//
// IMAGES and OUT are float32 without a header. Prints what failed and exits with 1.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "ntksap_engine.h"
#include "ort_client.h"

namespace {

using namespace ntksap;

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::exit(1);
}

std::vector<char> read(const char* path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(std::string("cannot read ") + path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void write(const char* path, const float* values, size_t count) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(values), std::streamsize(count * sizeof(float)));
  if (!file.flush()) fail(std::string("cannot write ") + path);
}

std::vector<float> floats(const std::vector<char>& bytes) {
  const float* begin = reinterpret_cast<const float*>(bytes.data());
  return {begin, begin + bytes.size() / sizeof(float)};
}

void* open(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) fail(dlerror());
  return library;
}

template <typename Function>
Function find(void* library, const char* name) {
  void* found = dlsym(library, name);
  if (!found) fail(std::string("no function ") + name);
  return reinterpret_cast<Function>(found);
}

void run_plan(char** argv) {
  void* library = open(argv[2]);
  const std::vector<char> bytes = read(argv[3]);
  const std::vector<float> images = floats(read(argv[4]));
  const int64_t batch = std::atoll(argv[7]);
  char error[256] = "";
  ntksap_plan* plan = nullptr;
  if (find<decltype(&ntksap_create)>(library, "ntksap_create")(bytes.data(), bytes.size(), &plan, error, sizeof error))
    fail(error);
  uint32_t inputs = 0, outputs = 0;
  find<decltype(&ntksap_plan_io)>(library, "ntksap_plan_io")(plan, &inputs, &outputs);
  std::vector<std::vector<float>> results(outputs);
  std::vector<float*> places;
  for (uint32_t i = 0; i < outputs; ++i) {
    uint32_t shape[4];
    find<decltype(&ntksap_plan_tensor)>(library, "ntksap_plan_tensor")(plan, 1, i, shape);
    results[i].resize(size_t(batch) * shape[0] * shape[1] * shape[2]);
    places.push_back(results[i].data());
  }
  const float* given = images.data();
  if (find<decltype(&ntksap_run)>(library, "ntksap_run")(plan, &given, places.data(), batch, std::atoi(argv[6]), error,
                                                         sizeof error))
    fail(error);
  write(argv[5], results[0].data(), results[0].size());
  find<decltype(&ntksap_destroy)>(library, "ntksap_destroy")(plan);
}

const OrtApi* api;

void check(OrtStatus* status) {
  if (status) fail(ort::GetErrorMessage(api)(status));
}

void run_session(char** argv) {
  void* runtime = open(argv[11]);
  const auto* base = find<const ort::ApiBase* (*)()>(runtime, "OrtGetApiBase")();
  api = base->GetApi(ort::kApi);
  if (!api) fail(std::string("onnxruntime ") + base->GetVersionString() + " is too old");

  OrtEnv* env;
  OrtSessionOptions* options;
  OrtSession* session;
  check(ort::CreateEnv(api)(ort::kWarning, "outside", &env));
  check(ort::CreateSessionOptions(api)(&options));
  check(ort::SetIntraOpNumThreads(api)(options, std::atoi(argv[6])));
  check(ort::RegisterCustomOpsLibrary_V2(api)(options, argv[2]));
  check(ort::CreateSession(api)(env, argv[3], options, &session));

  std::vector<float> images = floats(read(argv[4]));
  const int64_t shape[4] = {std::atoll(argv[7]), std::atoll(argv[8]), std::atoll(argv[9]), std::atoll(argv[10])};
  OrtMemoryInfo* memory;
  OrtValue *input, *output = nullptr;
  check(ort::CreateCpuMemoryInfo(api)(ort::kArena, 0, &memory));
  check(ort::CreateTensorWithDataAsOrtValue(api)(memory, images.data(), images.size() * sizeof(float), shape, 4,
                                                 ort::kFloat, &input));
  const char *input_name = "x0", *output_name = "y0";
  check(ort::Run(api)(session, nullptr, &input_name, &input, 1, &output_name, 1, &output));

  OrtTensorTypeAndShapeInfo* info;
  size_t count;
  void* values;
  check(ort::GetTensorTypeAndShape(api)(output, &info));
  check(ort::GetTensorShapeElementCount(api)(info, &count));
  check(ort::GetTensorMutableData(api)(output, &values));
  write(argv[5], static_cast<const float*>(values), count);

  ort::ReleaseTensorTypeAndShapeInfo(api)(info);
  ort::ReleaseValue(api)(output);
  ort::ReleaseValue(api)(input);
  ort::ReleaseMemoryInfo(api)(memory);
  ort::ReleaseSession(api)(session);
  ort::ReleaseSessionOptions(api)(options);
  ort::ReleaseEnv(api)(env);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "plan" && argc == 8)
    run_plan(argv);
  else if (mode == "ort" && argc == 12)
    run_session(argv);
  else
    fail("see the head of outside.cpp");
}
