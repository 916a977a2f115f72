// A plan that is ready to run: what the C interface hands out and the custom op holds.
#pragma once

#include <cstdio>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "executor.h"
#include "ntksap_engine.h"
#include "pool.h"

struct ntksap_plan {
  std::vector<uint32_t> bytes;  // of the plan, unless the caller keeps them
  std::vector<ntksap::TensorInfo> inputs, outputs;
  std::unique_ptr<ntksap::Executor> executor;
  std::unique_ptr<ntksap::Pool> pool;  // made by the first ntksap_run with more than one thread
  std::string description;
};

namespace ntksap {

// Why something failed, with a code of ntksap_engine.h.
struct Failure {
  int code;
  std::string reason;
};

// Reads and packs; throws Failure or std::bad_alloc. With `keeps`, the bytes stay where they are as long as the plan
// lives.
std::unique_ptr<ntksap_plan> make_plan(const void* bytes, uint64_t size, bool keeps);

// One line into a caller's buffer, cut where it is too long.
inline void tell(const char* reason, char* error, size_t error_size) noexcept {
  if (error && error_size) std::snprintf(error, error_size, "%s", reason);
}

// Calls what may throw and answers with a code; the reason goes into the buffer. Nothing is allocated on the way.
template <typename Call>
int guarded(char* error, size_t error_size, Call&& call) noexcept {
  try {
    call();
    return NTKSAP_OK;
  } catch (const Failure& failure) {
    tell(failure.reason.c_str(), error, error_size);
    return failure.code;
  } catch (const std::bad_alloc&) {
    tell("out of memory", error, error_size);
    return NTKSAP_OUT_OF_MEMORY;
  } catch (const std::length_error&) {
    tell("out of memory: more is needed than can be addressed", error, error_size);
    return NTKSAP_OUT_OF_MEMORY;
  } catch (const std::exception& exception) {
    tell(exception.what(), error, error_size);
  } catch (...) {
    tell("an unknown failure", error, error_size);
  }
  return NTKSAP_FAILED;
}

}  // namespace ntksap
