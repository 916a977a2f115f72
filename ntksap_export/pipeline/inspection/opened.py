"""Everything that can be inspected, opened alike: named tensors, and how each of them is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from ntksap_export.checkpoint import Provenance, Source, load_mask, open_checkpoint
from ntksap_export.checkpoint.bits import matrix_shape
from ntksap_export.checkpoint.encodings import Decoded
from ntksap_export.checkpoint.formats import FORMATS, recognise
from ntksap_export.checkpoint.formats.files import is_mask_file
from ntksap_export.errors import CheckpointError
from ntksap_export.graph import Graph, load_dense, open_weights
from ntksap_export.masks import Mask
from ntksap_export.pipeline.convert.kinds import GRAPH, Initializers, kind_of, pieces

MASK: Final = "mask"
KINDS: Final[Mapping[str, str]] = {
    "ntksap": "sparse checkpoint",
    "safetensors": "safetensors",
    "torch": "file of torch.save",
    "compressed-tensors": "compressed-tensors folder",
    "npz": "npz folder",
    "folder": "model folder",
    MASK: "mask",
    GRAPH: "ONNX graph",
}


@runtime_checkable
class _Telling(Protocol):
    def stored(self, name: str) -> tuple[str, int]:
        """Encoding and bytes."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An open file or folder.

    Attributes:
        path: of it.
        format: a key of `KINDS`.
        source: its tensors; of a mask file the masks stand for the values too.
        provenance: as JSON has it; None where there is none.
        graph: of an ONNX file.
    """

    path: Path
    format: str
    source: Source
    provenance: Mapping[str, Any] | None
    graph: Graph | None = None

    def stored(self, name: str, decoded: Decoded) -> tuple[str, int | None]:
        """How a tensor, which has been read, is stored, and its bytes in the file; None where the format says none."""
        if isinstance(self.source, _Telling):
            return self.source.stored(name)
        if decoded.kept is None:
            return "dense", decoded.tensor.nbytes
        return ("sparse" if self.format == GRAPH else "dense and mask"), None

    @property
    def file_bytes(self) -> int:
        """Of the files that hold it."""
        files = (self.path,) if self.format == MASK else pieces(self.path, self.format)
        return sum(file.stat().st_size for file in files)


@contextmanager
def open_any(path: Path) -> Iterator[Opened]:
    """Open a mask, a graph, or a checkpoint of any format; a directory may be a run's.

    Raises:
        CheckpointError: there is nothing, it is none of these, or it is damaged.
        ExportError: a damaged graph.
    """
    if not path.exists():
        raise CheckpointError(f"no such file or directory '{path}'")
    if is_mask_file(path):
        mask, note = load_mask(path)
        yield Opened(path, MASK, _Masks(mask), note)
        return
    kind = kind_of(path) or (GRAPH if path.suffix == ".onnx" and path.is_file() else recognise(path))
    if kind == GRAPH:
        graph = load_dense(path)
        with open_weights(path) as weights:
            yield Opened(path, GRAPH, Initializers(weights), None, graph)
    elif kind == "ntksap":
        with open_checkpoint(pieces(path, kind)[0]) as reader:
            yield Opened(path, kind, reader, _told(reader.provenance))
    else:
        with FORMATS[kind].open_source(path) as source:
            yield Opened(path, kind, source, _told(source.provenance))


def _told(provenance: Provenance | None) -> Mapping[str, Any] | None:
    return None if provenance is None else provenance.to_json()


class _Masks:
    provenance: Provenance | None = None

    def __init__(self, mask: Mask) -> None:
        self._mask = mask

    def names(self) -> tuple[str, ...]:
        return tuple(self._mask)

    def read(self, name: str) -> Decoded:
        return Decoded(self._mask[name], self._mask[name])

    def stored(self, name: str) -> tuple[str, int]:
        rows, columns = matrix_shape(tuple(self._mask[name].shape))
        return "bitmask", rows * -(-columns // 8)
