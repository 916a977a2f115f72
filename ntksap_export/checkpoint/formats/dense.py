"""Plain safetensors, in one file or in shards under an index as Hugging Face writes them.

Written is what `safetensors.torch.save_file` would write but for the order of tensors, without holding more than one:
header first, from a first walk over the source, then the values. A mask is not kept: its zeros are in the values.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open

from ntksap_export.checkpoint.container import DTYPES, shown
from ntksap_export.checkpoint.formats.files import (
    first_line,
    is_index,
    is_ours,
    naming,
    read_index,
    safetensors_metadata,
)
from ntksap_export.checkpoint.formats.folding import FoldedSource
from ntksap_export.checkpoint.provenance import Provenance
from ntksap_export.checkpoint.source import Source
from ntksap_export.errors import CheckpointError

_CODES: Final[Mapping[torch.dtype, str]] = {
    **{dtype: code for code, dtype in DTYPES.items()},
    torch.complex64: "C64",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
    torch.float8_e8m0fnu: "F8_E8M0",
}
_HEADER_ALIGNMENT = 8


def matches(path: Path) -> bool:
    """Whether it is a safetensors file that is not ours, or an index of such."""
    metadata = safetensors_metadata(path)
    if metadata is not None:
        return not is_ours(path)
    try:
        return is_index(path) and safetensors_metadata(next(iter(read_index(path).values()))) is not None
    except CheckpointError:
        return False


def pieces(path: Path) -> tuple[Path, ...]:
    """The files that hold it."""
    return (path, *sorted(set(read_index(path).values()))) if is_index(path) else (path,)


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open it; values are read when asked for.

    Raises:
        CheckpointError: it is damaged, or its masks do not fit its weights.
    """
    with naming(path), ExitStack() as opened:
        yield FoldedSource(_Stored(path, opened))


class _Stored:
    """The tensors of one file, or of several by an index."""

    def __init__(self, path: Path, opened: ExitStack) -> None:
        places = read_index(path) if is_index(path) else None
        files = [path] if places is None else sorted(set(places.values()))
        handles = {file: _opened(file, opened) for file in files}
        if places is None:
            places = dict.fromkeys(handles[path].keys(), path)
        else:
            _check_places(places, {file: set(handle.keys()) for file, handle in handles.items()})
        self._handles = {name: handles[file] for name, file in places.items()}

    def names(self) -> Iterable[str]:
        return self._handles

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._handles[name].get_slice(name).get_shape())

    def read(self, name: str) -> torch.Tensor:
        try:
            tensor: torch.Tensor = self._handles[name].get_tensor(name)
        except Exception as error:  # the library raises its own errors, torch's, and the system's
            raise CheckpointError(f"tensor {shown(name)} cannot be read: {first_line(error)}") from error
        if tensor.dtype == torch.bool and bool((tensor.view(torch.uint8) > 1).any()):
            raise CheckpointError(f"tensor {shown(name)} is bool but holds bytes other than 0 and 1")
        return tensor.clone()  # some versions of safetensors return memory that is mapped to the file


def _opened(file: Path, opened: ExitStack) -> Any:
    with naming(file):
        try:
            return opened.enter_context(safe_open(file, framework="pt"))
        except Exception as error:
            raise CheckpointError(f"not a readable safetensors file ({first_line(error)})") from error


def _check_places(places: Mapping[str, Path], found: Mapping[Path, set[str]]) -> None:
    for name, file in places.items():
        if name not in found[file]:
            raise CheckpointError(f"its index puts {shown(name)} into {shown(file.name)}, which has not got it")
    if surplus := sorted(set().union(*found.values()) - set(places)):
        raise CheckpointError(f"its shards hold {shown(surplus[0])}, which its index does not name")


def write(path: Path, source: Source, provenance: Provenance | None) -> None:  # noqa: ARG001 - a plain file has none
    """Write one safetensors file of dense tensors.

    Raises:
        CheckpointError: a dtype that safetensors has no code for.
        OSError: the disk is full.
    """
    with path.open("wb") as file:
        write_safetensors(file, {name: lambda name=name: source.read(name).tensor for name in source.names()}, {})


def write_safetensors(file: Any, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Write named tensors that are made when asked for, twice each: for the header, and for their values.

    Args:
        file: open for writing, binary.
        tensors: name -> a function that gives the tensor, on the CPU.
        metadata: goes beside `format`, which is `pt`: transformers loads no file without.

    Raises:
        CheckpointError: a dtype that safetensors has no code for.
    """
    specs = {}
    for name in sorted(tensors):
        tensor = tensors[name]()
        if tensor.dtype not in _CODES or name == "__metadata__":
            raise CheckpointError(f"tensor {shown(name)} of {tensor.dtype} cannot be in a safetensors file; convert it")
        specs[name] = (_CODES[tensor.dtype], list(tensor.shape), tensor.nbytes, tensor.dtype.itemsize)
    order = sorted(specs, key=lambda name: (-specs[name][3], name))  # wide values first: all lie aligned
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
    end = 0
    for name in order:
        code, shape, nbytes, _ = specs[name]
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [end, end + nbytes]}
        end += nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _HEADER_ALIGNMENT)
    file.write(struct.pack("<Q", len(text)) + text)
    for name in order:
        file.write(raw_bytes(tensors[name]()))


def raw_bytes(tensor: torch.Tensor) -> memoryview:
    """The values' bytes, little-endian, in C order; shares the tensor's memory where it is contiguous."""
    plain = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return plain.contiguous().view(-1).view(torch.uint8).numpy().data
