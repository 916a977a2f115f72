"""Our own: a sparse safetensors file, its shards under an index, or the run directory that it lies in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ntksap_export.checkpoint.formats.files import is_index, is_ours, read_index
from ntksap_export.checkpoint.provenance import Provenance
from ntksap_export.checkpoint.reader import open_checkpoint
from ntksap_export.checkpoint.source import Source
from ntksap_export.checkpoint.write import write_checkpoint
from ntksap_export.errors import CheckpointError

_MODEL = "model.safetensors"


def matches(path: Path) -> bool:
    """Whether it is a file with our metadata, an index of such, or a run directory that has been trained."""
    if path.is_dir():
        return (path / "config.json").is_file() and is_ours(path / _MODEL)
    if is_ours(path):
        return True
    try:
        return is_index(path) and is_ours(next(iter(read_index(path).values())))
    except CheckpointError:
        return False


def pieces(path: Path) -> tuple[Path, ...]:
    """The files that hold it."""
    if path.is_dir():
        return (path / _MODEL,)
    return (path, *sorted(set(read_index(path).values()))) if is_index(path) else (path,)


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open it.

    Raises:
        CheckpointError: it is damaged, or a mask file.
    """
    file = path / _MODEL if path.is_dir() else path
    with open_checkpoint(file) as source:
        yield source


def write(
    path: Path,
    source: Source,
    provenance: Provenance | None,
    *,
    encoding: str = "auto",
    max_shard_bytes: int | None = None,
) -> None:
    """Write it, each tensor in the encoding that takes the fewest bytes or in the one named; see `write_checkpoint`."""
    write_checkpoint(path, source, provenance, encoding, max_shard_bytes)
