"""Our own file, opened and written tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ntksap_export.checkpoint.encodings import Decoded
from ntksap_export.checkpoint.provenance import Provenance
from ntksap_export.checkpoint.source import Source
from ntksap_export.checkpoint.sparse_checkpoint import SparseCheckpoint
from ntksap_export.masks import Mask

_NOBODY = Provenance("", "", 0, {}, {})


class _Loaded:
    def __init__(self, checkpoint: SparseCheckpoint) -> None:
        self._checkpoint = checkpoint
        known = checkpoint.provenance.to_json() != _NOBODY.to_json()
        self.provenance: Provenance | None = checkpoint.provenance if known else None

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._checkpoint.tensors))

    def read(self, name: str) -> Decoded:
        return Decoded(self._checkpoint.tensors[name], self._checkpoint.mask.get(name))


@contextmanager
def open_checkpoint(path: Path) -> Iterator[Source]:
    """Open a checkpoint of ours."""
    yield _Loaded(SparseCheckpoint.load(path))


def write_checkpoint(path: Path, source: Source, provenance: Provenance | None, encoding: str = "auto") -> None:  # noqa: ARG001
    """Write a checkpoint of ours."""
    read = {name: source.read(name) for name in source.names()}
    mask = Mask({name: decoded.kept for name, decoded in read.items() if decoded.kept is not None})
    tensors = {name: decoded.tensor for name, decoded in read.items()}
    SparseCheckpoint(tensors, mask, provenance or _NOBODY).save(path)
