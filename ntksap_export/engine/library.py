"""The engine's shared library: where it lies, how onnxruntime gets it, and its C interface for tests and inspection.

Sessions need only `register`, or `library_path` from any language. onnxruntime itself is never imported here.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ntksap_export.errors import CheckpointError, UnavailableError

ENGINE_DOMAIN: Final = "ntksap_export"
"""The domain of the engine's operators: a graph that lists it needs the library."""
ABI: Final = 1
_HOME: Final = Path(__file__).parent
_LIBRARY: Final = "libntksap_engine.dylib" if sys.platform == "darwin" else "libntksap_engine.so"
_WHY_NOT: Final = "not_built.txt"  # left by the build
_REASON_BYTES: Final = 512
_MALFORMED, _OUT_OF_MEMORY = 1, 2
_FUNCTIONS: Final[dict[str, tuple[Any, list[Any]]]] = {
    "ntksap_abi_version": (ctypes.c_uint32, []),
    "ntksap_isa": (ctypes.c_char_p, []),
    "ntksap_create": (
        ctypes.c_int,
        [ctypes.c_void_p, ctypes.c_uint64, ctypes.POINTER(ctypes.c_void_p), ctypes.c_char_p, ctypes.c_size_t],
    ),
    "ntksap_run": (
        ctypes.c_int,
        [
            *(ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_void_p)),
            *(ctypes.c_int64, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t),
        ],
    ),
    "ntksap_destroy": (None, [ctypes.c_void_p]),
    "ntksap_plan_io": (
        ctypes.c_int,
        [ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint32), ctypes.POINTER(ctypes.c_uint32)],
    ),
    "ntksap_plan_tensor": (
        ctypes.c_int,
        [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint32)],
    ),
    "ntksap_describe": (ctypes.c_char_p, [ctypes.c_void_p]),
}
Floats = npt.NDArray[np.float32]


def library_path() -> Path:
    """The shared library, for onnxruntime's `register_custom_ops_library` in any language.

    Raises:
        UnavailableError: it was not built; the line says why and what to do.
    """
    path = _HOME / _LIBRARY
    if path.is_file():
        return path
    note = _HOME / _WHY_NOT
    why = note.read_text().strip() if note.is_file() else "no C++ compiler"
    raise UnavailableError(
        f"the sparse engine was not built at install time ({why}); install g++ or clang and reinstall, "
        "or use model.onnx"
    )


def available() -> bool:
    """Whether the library is installed."""
    return (_HOME / _LIBRARY).is_file()


def register(session_options: Any) -> None:
    """Make the engine's operator known to the sessions that these options open.

    Args:
        session_options: an `onnxruntime.SessionOptions`, changed in place.

    Raises:
        UnavailableError: the library was not built, or this onnxruntime cannot load it.
    """
    path = library_path()
    try:
        session_options.register_custom_ops_library(str(path))
    except Exception as error:  # onnxruntime's own exception classes have no common public base
        said = " ".join(str(error).split())
        raise UnavailableError(f"onnxruntime cannot load the sparse engine: {said}; use model.onnx") from None


def describe() -> dict[str, Any]:
    """What the library is here: `isa`, the instruction set of its kernels on this CPU, and `abi`, its version."""
    library = load()
    return {"isa": library.ntksap_isa().decode(), "abi": library.ntksap_abi_version()}


def load() -> ctypes.CDLL:
    """The library's C interface (native/ntksap_engine.h), argument types declared.

    Raises:
        UnavailableError: it was not built, cannot be loaded, or is of another version than this package.
    """
    return _load(library_path())


@lru_cache
def _load(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise UnavailableError(f"the sparse engine cannot be loaded: {error}; reinstall, or use model.onnx") from None
    version = library.ntksap_abi_version()
    if version != ABI:
        raise UnavailableError(f"{path.name} has version {version}, this package needs {ABI}; reinstall")
    return library


class NativePlan:
    """A plan that is ready to run, without onnxruntime. Not for several threads at once.

    Args:
        data: as `plan_to_bytes` gives them; not needed afterwards.
        library: None: the installed one.

    Attributes:
        inputs, outputs: the shapes, without the batch.

    Raises:
        CheckpointError: the bytes are no plan that can be run.
        MemoryError: it does not fit.
    """

    def __init__(self, data: bytes, library: Path | None = None) -> None:
        self._library = load() if library is None else _load(library)
        self._plan = ctypes.c_void_p()
        reason = ctypes.create_string_buffer(_REASON_BYTES)
        code = self._library.ntksap_create(data, len(data), ctypes.byref(self._plan), reason, len(reason))
        _raise(code, reason)
        self.close = weakref.finalize(self, self._library.ntksap_destroy, self._plan)
        counts = (ctypes.c_uint32(), ctypes.c_uint32())
        self._library.ntksap_plan_io(self._plan, ctypes.byref(counts[0]), ctypes.byref(counts[1]))
        self.inputs = [self._shape(False, index) for index in range(counts[0].value)]
        self.outputs = [self._shape(True, index) for index in range(counts[1].value)]

    def run(self, inputs: Sequence[npt.ArrayLike], threads: int = 1) -> list[Floats]:
        """The outputs for inputs of one batch.

        Args:
            inputs: float32 (N, C, H, W) or (N, C), as the plan's inputs.
            threads: of the plan's own pool; 0 for one of each CPU.

        Raises:
            ValueError: the shapes are not the plan's.
            UnavailableError: a thread could not be started.
        """
        arrays = [np.ascontiguousarray(array, np.float32) for array in inputs]
        if [array.shape[1:] for array in arrays] != self.inputs or len({len(array) for array in arrays}) != 1:
            shapes = [array.shape for array in arrays]
            raise ValueError(f"the inputs are {shapes}; the plan was made for {self.inputs} behind one batch")
        batch = len(arrays[0])
        outputs = [np.empty((batch, *shape), np.float32) for shape in self.outputs]
        reason = ctypes.create_string_buffer(_REASON_BYTES)
        code = self._library.ntksap_run(
            self._plan, _pointers(arrays), _pointers(outputs), batch, threads, reason, len(reason)
        )
        _raise(code, reason)
        return outputs

    def describe(self) -> str:
        """JSON: what runs on which kernel."""
        text: bytes = self._library.ntksap_describe(self._plan)
        return text.decode()

    def _shape(self, is_output: bool, index: int) -> tuple[int, ...]:
        numbers = (ctypes.c_uint32 * 4)()
        self._library.ntksap_plan_tensor(self._plan, is_output, index, numbers)
        channels, height, width, rank = numbers
        return (channels, height, width) if rank == 4 else (channels,)


def _pointers(arrays: Sequence[Floats]) -> Any:
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))


def _raise(code: int, reason: Any) -> None:
    text = reason.value.decode(errors="replace")
    if code == _MALFORMED:
        raise CheckpointError(f"the plan cannot be used: {text}")
    if code == _OUT_OF_MEMORY:
        raise MemoryError(text)
    if code != 0:
        raise UnavailableError(f"the sparse engine failed: {text}")
