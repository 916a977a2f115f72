"""Compares what native/ort_abi.h declares of ONNX Runtime with its own header, by letting the compiler do it.

The header is not part of this package. On Debian 13 it comes with `apt install libonnxruntime-dev` (onnxruntime 1.21,
MIT licence); any release's `include` folder from onnxruntime's own page will do. Then:

    python tests/engine/check_ort_abi.py [folder of onnxruntime_c_api.h]

For every slot: its place in OrtApi and its type; for every member of a custom operator: the same. Enumerations count as
int, our own `CustomOp` and theirs as one. Prints how much was compared; exit code 1 and the compiler's words otherwise.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
NATIVE: Final = ROOT / "ntksap_export" / "engine" / "native"
CLIENT: Final = ROOT / "tests" / "engine"
HEADER: Final = "onnxruntime_c_api.h"
USUAL: Final = (Path("/usr/include/onnxruntime"), Path("/usr/local/include/onnxruntime"))
CHECK: Final = """
#include <onnxruntime_c_api.h>
#include <cstdio>
#include <type_traits>
#include "ort_abi.h"
#include "ort_client.h"

using namespace ntksap;

// A type with enumerations replaced by int, behind pointers too; functions without noexcept.
template <typename T> struct Plain { using type = std::conditional_t<std::is_enum_v<T>, int, T>; };
template <typename T> struct Plain<T*> { using type = typename Plain<T>::type*; };
template <typename T> struct Plain<const T> { using type = const typename Plain<T>::type; };
template <typename R, typename... A> struct Plain<R(A...)> {
  using type = typename Plain<R>::type(typename Plain<A>::type...);
};
template <typename R, typename... A> struct Plain<R(A...) noexcept> : Plain<R(A...)> {};
template <typename A, typename B>
constexpr bool same = std::is_same_v<typename Plain<A>::type, typename Plain<B>::type>;

#define SLOT(name, slot, result, parameters)                                                  \\
  static_assert(offsetof(OrtApi, name) == slot * sizeof(void*), #name ": another slot");      \\
  static_assert(same<decltype(OrtApi::name), result(*) parameters>, #name ": another type");
NTKSAP_ORT_SLOTS(SLOT)
NTKSAP_ORT_CLIENT_SLOTS(SLOT)

#define MEMBER(name, result, parameters)                                                                           \\
  static_assert(offsetof(OrtCustomOp, name) == offsetof(ort::CustomOp, name), #name ": at another place");         \\
  static_assert(same<decltype(OrtCustomOp::name), decltype(ort::CustomOp::name)>, #name ": another type");
NTKSAP_ORT_OP_MEMBERS(MEMBER)
static_assert(offsetof(OrtCustomOp, version) == 0 && sizeof(OrtCustomOp) >= sizeof(ort::CustomOp));

static_assert(offsetof(OrtApiBase, GetApi) == offsetof(ort::ApiBase, GetApi));
static_assert(offsetof(OrtApiBase, GetVersionString) == offsetof(ort::ApiBase, GetVersionString));
static_assert(same<decltype(OrtApiBase::GetApi), decltype(ort::ApiBase::GetApi)>);
#define VALUE(theirs, ours) static_assert(int(theirs) == ours, #theirs)
VALUE(ORT_FAIL, ort::kFail);
VALUE(ORT_INVALID_ARGUMENT, ort::kInvalidArgument);
VALUE(ORT_INVALID_GRAPH, ort::kInvalidGraph);
VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED, ort::kUndefined);
VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, ort::kFloat);
VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, ort::kUint8);
VALUE(INPUT_OUTPUT_VARIADIC, ort::kVariadic);
VALUE(OrtMemTypeDefault, 0);
VALUE(OrtArenaAllocator, ort::kArena);
VALUE(ORT_LOGGING_LEVEL_WARNING, ort::kWarning);

#define ONE(...) +1
int main() {
  const int slots = 0 NTKSAP_ORT_SLOTS(ONE) NTKSAP_ORT_CLIENT_SLOTS(ONE), members = 0 NTKSAP_ORT_OP_MEMBERS(ONE);
  std::printf("%d slots and %d members agree with version %d\\n", slots, members, ORT_API_VERSION);
}
"""


def find_header(folder: Path | None = None) -> Path | None:
    """The folder with onnxruntime's header: the one given, or the first usual one."""
    return next((path for path in ([folder] if folder else USUAL) if (path / HEADER).is_file()), None)


def check(folder: Path, compiler: str = "c++") -> str:
    """What was compared; raises subprocess.CalledProcessError with the compiler's words where something differs."""
    with tempfile.TemporaryDirectory() as scratch:
        source, program = Path(scratch, "check.cpp"), Path(scratch, "check")
        source.write_text(CHECK)
        includes = [f"-I{path}" for path in (folder, NATIVE, CLIENT)]
        flags = ["-std=c++17", "-w", "-o", str(program)]
        subprocess.run([compiler, *flags, *includes, str(source)], check=True, capture_output=True, text=True)
        return subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout


def main() -> int:
    folder = find_header(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    if folder is None:
        print(f"no {HEADER}; name its folder, see this file's beginning", file=sys.stderr)
        return 1
    try:
        print(check(folder), end="")
    except subprocess.CalledProcessError as error:
        print("\n".join(line for line in error.stderr.splitlines() if "error" in line), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
