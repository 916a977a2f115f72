"""Formats that a checkpoint comes in: found by content, opened as a `Source`, some of them written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from ntksap_export.checkpoint.container import stand_in
from ntksap_export.checkpoint.formats import compressed_tensors, dense, model_folder, npz, ours, torch_file
from ntksap_export.checkpoint.formats.files import head, read_json
from ntksap_export.checkpoint.source import Source
from ntksap_export.errors import CheckpointError


class Format(Protocol):
    """The functions that each format's module has; one that can be written has `write` too."""

    def matches(self, path: Path) -> bool:
        """Whether the content is of this format; cheap, and never an error."""

    def open_source(self, path: Path) -> AbstractContextManager[Source]:
        """Open it. CheckpointError where it is damaged."""


# In the order in which they are tried: a format that another would match too stands before it.
FORMATS: Final[Mapping[str, Format]] = {
    "ntksap": ours,
    "safetensors": dense,
    "torch": torch_file,
    "compressed-tensors": compressed_tensors,
    "npz": npz,
    "folder": model_folder,
}

__all__ = ["FORMATS", "Format", "format_of", "open_source", "pieces", "recognise"]


def format_of(path: Path) -> str | None:
    """The name of the format that the content is of; None for none."""
    return next((name for name, known in FORMATS.items() if known.matches(path)), None)


def recognise(path: Path) -> str:
    """The name of the format that the content is of.

    Raises:
        CheckpointError: there is nothing, or it is none of `FORMATS`.
    """
    if (found := format_of(path)) is not None:
        return found
    raise CheckpointError(f"{path}: {_what_it_is(path)}")


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open a checkpoint of whatever format.

    Raises:
        CheckpointError: there is nothing, it is no checkpoint, or it is damaged.
    """
    with FORMATS[recognise(path)].open_source(path) as source:
        yield source


def pieces(path: Path, name: str) -> tuple[Path, ...]:
    """The files that hold a checkpoint of the format `name`, for who wants to know whether it changed."""
    known: Any = FORMATS[name]
    if hasattr(known, "pieces"):
        return tuple(known.pieces(path))
    return (path,) if path.is_file() else tuple(sorted(file for file in path.rglob("*") if file.is_file()))


def _what_it_is(path: Path) -> str:
    if not path.exists():
        return "no such file or directory"
    if path.is_dir():
        return "a directory without a checkpoint: weights, and config.json or what else its format asks for"
    start = head(path, 64)
    if not start:
        return "the file is empty" if path.is_file() else "not a regular file"
    if (found := stand_in(start)) is not None:
        return found
    if start.lstrip().startswith(b"{"):
        read_json(path)
        return "JSON, and no index of shards"
    return f"of no known format ({', '.join(FORMATS)}, or onnx); truncated or damaged"
