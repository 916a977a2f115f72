"""Masks out of a file: our mask.safetensors, or any checkpoint that has masks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ntksap_export.checkpoint import load_mask
from ntksap_export.checkpoint.digest import digest
from ntksap_export.checkpoint.encodings import Decoded
from ntksap_export.checkpoint.formats import open_source as open_any
from ntksap_export.checkpoint.formats import pieces, recognise
from ntksap_export.checkpoint.formats.files import is_mask_file
from ntksap_export.checkpoint.provenance import Provenance
from ntksap_export.checkpoint.source import Source
from ntksap_export.errors import CheckpointError
from ntksap_export.masks import Mask


class _MaskFile:
    provenance: Provenance | None = None

    def __init__(self, mask: Mask) -> None:
        self._mask = mask

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._mask))

    def read(self, name: str) -> Decoded:
        return Decoded(torch.empty(0), self._mask[name])


class _MasksOf:
    """A checkpoint, of which only the masked tensors are asked for."""

    provenance: Provenance | None = None

    def __init__(self, source: Source) -> None:
        self._source = source
        self._names = tuple(name for name in source.names() if source.read(name).kept is not None)

    def names(self) -> tuple[str, ...]:
        return self._names

    def read(self, name: str) -> Decoded:
        return self._source.read(name)


@contextmanager
def open_masks(path: Path) -> Iterator[Source]:
    """The masks of a file; tensors stand for nothing but where they are kept.

    Raises:
        CheckpointError: it is damaged, or a checkpoint without masks.
    """
    if is_mask_file(path):
        yield _MaskFile(load_mask(path)[0])
        return
    with open_any(path) as source:
        masks = _MasksOf(source)
        if not masks.names():
            raise CheckpointError(f"--mask '{path}' has no masks; zeros alone are none, see --threshold")
        yield masks


def mask_digest(path: Path | None) -> str | None:
    """Of the file's content; None where there is none.

    Raises:
        CheckpointError: it is no file of masks, nor a checkpoint.
    """
    if path is None:
        return None
    return digest((path,) if is_mask_file(path) else pieces(path, recognise(path)))
