"""One safetensors file with one metadata key: nothing in it is believed before it is checked.

The bytes of a file depend on its content alone: safetensors orders the tensors itself (by dtype, then name),
and a single metadata key holding canonical JSON leaves no order to chance.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, NoReturn

import torch
from safetensors import safe_open

from ntksap_export.errors import CheckpointError
from ntksap_export.quoting import first_line, shown

METADATA_KEY: Final = "ntksap"
SCHEMA: Final = 2  # 1 knew dense and bitmask, and named every tensor
MAX_ELEMENTS: Final = 2**48  # no file holds more; below it no product of sizes overflows 64 bits
_PICKLE_PROTOCOLS: Final = (b"\x02", b"\x03", b"\x04", b"\x05")
DTYPES: Final[Mapping[str, torch.dtype]] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
DTYPE_CODES: Final[Mapping[torch.dtype, str]] = {dtype: code for code, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Spec:
    """What a file's header says of one of its tensors; its bytes are known to lie in the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes the values take in the file."""
        return math.prod(self.shape) * self.dtype.itemsize


class Container:
    """An open file: its parsed metadata, the specs of its tensors, and their values on request."""

    def __init__(self, handle: Any, document: Mapping[str, Any], specs: Mapping[str, Spec]) -> None:
        self._handle = handle
        self.document = document
        self.specs = specs

    def spec(self, part: str) -> Spec:
        """The spec of the file's tensor `part`.

        Raises:
            CheckpointError: the file has no such tensor.
        """
        if part not in self.specs:
            raise CheckpointError(f"tensor {shown(part)} is missing; write the file again")
        return self.specs[part]

    def expect(self, part: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        """Check `part` against what it must be, before any of it is read.

        Raises:
            CheckpointError: it is missing, or of another dtype or shape.
        """
        spec = self.spec(part)
        if (spec.dtype, spec.shape) != (dtype, shape):
            raise CheckpointError(
                f"tensor {shown(part)} must be {dtype_name(dtype)} {shape}; got {dtype_name(spec.dtype)} {spec.shape}"
            )

    def expect_only(self, parts: set[str]) -> None:
        """Check that the file holds no tensor but `parts`.

        Raises:
            CheckpointError: names one that the metadata does not list.
        """
        if surplus := sorted(set(self.specs) - parts):
            raise CheckpointError(f"tensor {shown(surplus[0])} is not listed in the metadata; write the file again")

    def read(self, part: str) -> torch.Tensor:
        """The values of `part`, in memory of their own.

        Raises:
            CheckpointError: they cannot be read.
        """
        check_memory_for(self.spec(part).nbytes, part)
        return owned(part, self.view(part))

    def view(self, part: str) -> torch.Tensor:
        """The values of `part`, perhaps mapped to the file: only to be read, and only while it is open.

        Raises:
            CheckpointError: they cannot be read.
        """
        self.spec(part)
        return mapped(self._handle, part)


def mapped(handle: Any, name: str) -> torch.Tensor:
    """A tensor of an open safetensors file, perhaps mapped to it.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        tensor: torch.Tensor = handle.get_tensor(name)
    except Exception as error:  # the library raises its own errors, torch's, and the system's
        raise CheckpointError(f"tensor {shown(name)} cannot be read: {first_line(error)}") from error
    return tensor


def owned(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """What `mapped` gave, in memory of its own.

    Raises:
        CheckpointError: a bool that is neither 0 nor 1.
    """
    if tensor.dtype == torch.bool and bool((tensor.view(torch.uint8) > 1).any()):
        raise CheckpointError(f"tensor {shown(name)} is bool but holds bytes other than 0 and 1")
    return tensor.clone()


@contextmanager
def open_container(path: Path) -> Iterator[Container]:
    """Open `path` for reading; nothing of it is unpickled, and no memory is taken but for bytes that are in it.

    Raises:
        CheckpointError: there is no such file, or it is not one of ours; without the file's name (see `naming`).
    """
    head = _first_bytes(path)
    try:
        opened: Any = safe_open(path, framework="pt")
    except Exception as error:
        raise CheckpointError(f"{_what_it_is(head)} ({first_line(error)})") from error
    with opened as handle:
        names = list(handle.keys())
        document = _parsed(handle.metadata(), len(names))
        yield Container(handle, document, {name: spec_of(handle, name) for name in names})


def shape_from_json(value: Any) -> tuple[int, ...]:
    """A tensor's shape from parsed JSON.

    Raises:
        CheckpointError: it is not a list of sizes, or there are more elements than any file holds.
    """
    if not isinstance(value, list) or not all(type(size) is int and 0 <= size <= MAX_ELEMENTS for size in value):
        raise CheckpointError(f"shape must be a list of sizes from 0 to 2**48; got {shown(value)}")
    if len(value) > 64 or math.prod(max(size, 1) for size in value) > MAX_ELEMENTS:
        raise CheckpointError(f"shape {shown(value)} is larger than any file; is the file damaged?")
    return tuple(value)


@cache
def _machine_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_memory_for(nbytes: int, name: str) -> None:
    """Refuse a tensor that no machine like this one could hold.

    Raises:
        CheckpointError: it is larger than the machine's whole memory.
    """
    memory = _machine_memory()
    if nbytes > memory:
        raise CheckpointError(
            f"tensor {shown(name)} would take {nbytes:,} bytes, this machine has {memory:,}; is the file damaged?"
        )


@contextmanager
def within_memory(what: str) -> Iterator[None]:
    """Tell what the machine could hold, but this process may not, as other lies of a file are told.

    Raises:
        CheckpointError: memory was refused in the block; begins with `what`.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # numpy's; torch's, which has no class of its own
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
            raise
        raise CheckpointError(f"{what} does not fit into free memory; is the file damaged?") from error


def dtype_name(dtype: torch.dtype) -> str:
    """As torch writes it, without `torch.`."""
    return str(dtype).removeprefix("torch.")


def _first_bytes(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise CheckpointError("is a directory; name the .safetensors file in it")
        if not stat.S_ISREG(mode):
            raise CheckpointError("is not a regular file")
        with path.open("rb") as file:
            return file.read(64)
    except OSError as error:
        raise CheckpointError((error.strerror or str(error)).lower()) from error
    except ValueError as error:  # a name with a null byte, or one that cannot be encoded
        raise CheckpointError(f"no such name is possible: {first_line(error)}") from error


def _what_it_is(head: bytes) -> str:
    # Only asked of what safetensors refused: a sound file may well begin with one of these bytes.
    if not head:
        return "not an ntksap checkpoint; the file is empty"
    if head[8:9] == b"{":
        return "not a readable safetensors file; truncated or damaged"
    if head.startswith(b"PK"):
        return "not an ntksap checkpoint; a zip archive, as torch.save writes: these are never unpickled here"
    if head[:1] == b"\x80" and head[1:2] in _PICKLE_PROTOCOLS:
        return "not an ntksap checkpoint; a pickle: these are never unpickled here"
    if (found := stand_in(head)) is not None:
        return f"not an ntksap checkpoint; {found}"
    return "not a readable safetensors file; truncated or damaged"


def stand_in(head: bytes) -> str | None:
    """What came in the place of a file, told by its first bytes; None for anything else."""
    if head.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer: fetch the file itself with git lfs pull"
    if head.lstrip().startswith(b"<"):
        return "an HTML or XML page: was the download refused?"
    return None


def _parsed(metadata: Mapping[str, str] | None, tensors: int) -> dict[str, Any]:
    if metadata is None or METADATA_KEY not in metadata:
        raise CheckpointError(
            f"not an ntksap checkpoint; dense safetensors with {tensors} tensors and no {METADATA_KEY!r} "
            "metadata; read it with safetensors.torch.load_file"
        )
    try:
        document = json.loads(metadata[METADATA_KEY], parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"its {METADATA_KEY!r} metadata is not JSON: {first_line(error)}") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"its {METADATA_KEY!r} metadata must be a JSON object; got {shown(document)}")
    schema = document.get("schema")
    if type(schema) is not int or schema < 1:
        raise CheckpointError(f"its schema must be a number from 1 up; got {shown(schema)}")
    if schema > SCHEMA:
        raise CheckpointError(
            f"written by a newer ntksap-export (schema {shown(schema)}, this one reads up to {SCHEMA}); "
            "upgrade ntksap-export"
        )
    return document


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    # 1e999 is infinity, which could not be written again
    return value if math.isfinite(value := float(text)) else _refuse(shown(text))


def spec_of(handle: Any, name: str) -> Spec:
    """The spec of a tensor of an open safetensors file.

    Raises:
        CheckpointError: its dtype is not in `DTYPES`.
    """
    view = handle.get_slice(name)
    code = view.get_dtype()
    if code not in DTYPES:
        raise CheckpointError(f"tensor {shown(name)} has dtype {code}, which is not read; use {', '.join(DTYPES)}")
    return Spec(DTYPES[code], shape_from_json(list(view.get_shape())))
