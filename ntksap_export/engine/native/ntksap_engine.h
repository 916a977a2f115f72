/* The sparse engine's C interface, version 1. A plan is made of bytes that ntksap_export writes (docs/engine.md) and
 * runs on the CPU it is created on. Nothing throws; functions with an `error` buffer leave one line there when they
 * fail, and take a null buffer of size 0.
 *
 * The same library is a custom op library of ONNX Runtime: RegisterCustomOps makes it known to a session.
 */
#ifndef NTKSAP_ENGINE_H
#define NTKSAP_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#define NTKSAP_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

enum {
  NTKSAP_OK = 0,
  NTKSAP_MALFORMED = 1, /* the bytes are no plan that can be run */
  NTKSAP_OUT_OF_MEMORY = 2,
  NTKSAP_FAILED = 3 /* anything else: a null pointer, a negative batch, no thread could be started */
};

typedef struct ntksap_plan ntksap_plan;

/* One part of a parallel loop, and a loop: calls task(user, i) for every i < count and returns when all have returned.
 */
typedef void (*ntksap_task)(void* user, size_t index);
typedef void (*ntksap_parallel_for)(void* pool, ntksap_task task, size_t count, void* user);

NTKSAP_API uint32_t ntksap_abi_version(void);

/* "avx512", "avx2", "neon" or "portable": what ntksap_create uses. NTKSAP_ENGINE_ISA=avx2|portable lowers it. */
NTKSAP_API const char* ntksap_isa(void);

/* Makes a plan ready to run. The bytes are copied: they may go afterwards. */
NTKSAP_API int ntksap_create(const void* bytes, uint64_t size, ntksap_plan** plan, char* error, size_t error_size);

/* Runs it. inputs[i], outputs[i]: contiguous float32 (batch, channels, height, width) of the plan's i-th input and
 * output, which the caller owns; they may not overlap. One call at a time per plan. threads: of a pool that the plan
 * keeps, the caller's thread among them; 0: one for each CPU. After fork() the child gets a pool of its own. */
NTKSAP_API int ntksap_run(ntksap_plan* plan, const float* const* inputs, float* const* outputs, int64_t batch,
                          int threads, char* error, size_t error_size);

/* The same on a caller's pool, in which `lanes` tasks run at once. */
NTKSAP_API int ntksap_run_on(ntksap_plan* plan, const float* const* inputs, float* const* outputs, int64_t batch,
                             size_t lanes, ntksap_parallel_for parallel_for, void* pool, char* error,
                             size_t error_size);

NTKSAP_API void ntksap_destroy(ntksap_plan* plan); /* null: nothing */

/* How many inputs and outputs, and the shape of one: channels, height, width, rank (4: NCHW; 2: NC). 0, or
 * NTKSAP_FAILED. */
NTKSAP_API int ntksap_plan_io(const ntksap_plan* plan, uint32_t* n_inputs, uint32_t* n_outputs);
NTKSAP_API int ntksap_plan_tensor(const ntksap_plan* plan, int is_output, uint32_t index, uint32_t chwr[4]);

/* JSON: the instruction set, and `operators`: kind, shapes, density, the kernel chosen and its time in the last run, of
 * those that have run. Belongs to the plan, until the next call. */
NTKSAP_API const char* ntksap_describe(ntksap_plan* plan);

/* What onnxruntime looks for in a custom op library (OrtStatus* etc. are its own types, null is success). */
struct OrtStatus;
struct OrtSessionOptions;
struct OrtApiBase;
NTKSAP_API struct OrtStatus* RegisterCustomOps(struct OrtSessionOptions* options, const struct OrtApiBase* base);

#ifdef __cplusplus
}
#endif

#endif
