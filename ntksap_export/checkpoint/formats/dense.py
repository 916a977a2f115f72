"""Plain safetensors, in one file or in shards under an index as Hugging Face writes them.

Written is what `safetensors.torch.save_file` would write but for the order of tensors, without holding more than one:
header first, from a first walk over the source, then the values. A mask is not kept: its zeros are in the values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from ntksap_export.checkpoint.container import Spec, mapped, owned
from ntksap_export.checkpoint.formats.files import is_index, is_ours, read_index, safetensors_metadata
from ntksap_export.checkpoint.formats.folder import open_handles
from ntksap_export.checkpoint.formats.folding import FoldedSource
from ntksap_export.checkpoint.formats.stream import write_safetensors
from ntksap_export.checkpoint.header import CODES
from ntksap_export.checkpoint.provenance import Provenance
from ntksap_export.checkpoint.source import Source
from ntksap_export.errors import CheckpointError
from ntksap_export.quoting import shown


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
def open_source(path: Path, strip: bool = True) -> Iterator[Source]:
    """Open it; values are read when asked for. For `strip`, see `FoldedSource`.

    Raises:
        CheckpointError: it is damaged, or its masks do not fit its weights.
    """
    with ExitStack() as opened:
        yield FoldedSource(_Stored(path, opened), str(path), strip)


class _Stored:
    """The tensors of one file, or of several by an index."""

    def __init__(self, path: Path, opened: ExitStack) -> None:
        self._handles = open_handles(path, opened)

    def names(self) -> Iterable[str]:
        return self._handles

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._handles[name].get_slice(name).get_shape())

    def read(self, name: str) -> torch.Tensor:
        return owned(name, mapped(self._handles[name], name))


def write(path: Path, source: Source, provenance: Provenance | None) -> None:  # noqa: ARG001 - a plain file has none
    """Write one safetensors file of dense tensors.

    Raises:
        CheckpointError: a dtype that safetensors has no code for.
        OSError: the disk is full.
    """
    specs = {name: _spec(name, source.read(name).tensor) for name in source.names()}
    parts = ((name, source.read(name).tensor.contiguous()) for name in source.names())
    write_safetensors(path, specs, parts, {"format": "pt"})  # transformers loads no file that does not say so


def _spec(name: str, tensor: torch.Tensor) -> Spec:
    if tensor.dtype not in CODES or name == "__metadata__":
        raise CheckpointError(f"tensor {shown(name)} of {tensor.dtype} cannot be in a safetensors file; convert it")
    return Spec(tensor.dtype, tuple(tensor.shape))


def raw_bytes(tensor: torch.Tensor) -> memoryview:
    """The values' bytes, little-endian, in C order; shares the tensor's memory where it is contiguous."""
    plain = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return plain.contiguous().view(-1).view(torch.uint8).numpy().data
