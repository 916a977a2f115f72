"""Writes a safetensors file tensor by tensor: nothing but the one being added need be in memory.

The bytes of a file depend on its content alone: wide dtypes come first, so that every tensor is aligned, then names in
order; a single metadata key holding canonical JSON leaves no order to chance.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import IO, Any, Final

import torch

from ntksap_export.atomic import canonical_json
from ntksap_export.checkpoint.container import METADATA_KEY, SCHEMA, Spec
from ntksap_export.checkpoint.header import header

_IN_MEMORY: Final = 64 << 20  # bytes held before they go to a file that has no name
_PIECE: Final = 1 << 22


class Writer:
    """Collects tensors, then gives a file's bytes: the header and what stands behind it."""

    def __init__(self, directory: Path | None = None) -> None:
        """Args: where to put aside what is too much for memory, with room for the file once more; None: all is held."""
        self._directory = directory
        self._specs: dict[str, Spec] = {}
        self._held: dict[str, memoryview] = {}
        self._held_bytes = 0
        self._places: dict[str, int] = {}  # in the file aside, of what is not held
        self._aside: IO[bytes] | None = None
        self.nbytes = 0

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each tensor."""
        return {name: spec.nbytes for name, spec in self._specs.items()}

    def close(self) -> None:
        """Drop what was collected."""
        self._held.clear()
        if self._aside is not None:
            self._aside.close()

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Collect one tensor; its memory is not copied at once, so it must not change before the bytes are asked for.

        Args:
            name: not added before.
            tensor: contiguous, on the CPU, of a dtype in `DTYPES`.
        """
        assert name not in self._specs
        self._specs[name] = Spec(tensor.dtype, tuple(tensor.shape))
        self._held[name] = tensor.view(-1).view(torch.uint8).numpy().data if tensor.nbytes else memoryview(b"")
        self.nbytes += tensor.nbytes
        self._held_bytes += tensor.nbytes
        if self._directory is not None and self._held_bytes > _IN_MEMORY:
            self._put_aside(self._directory)

    def _put_aside(self, directory: Path) -> None:
        if self._aside is None:
            self._aside = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - `close` closes it
        for name, held in self._held.items():
            self._places[name] = self._aside.tell()
            self._aside.write(held)
        self._held.clear()
        self._held_bytes = 0

    def chunks(self, document: Mapping[str, Any]) -> Iterator[bytes | memoryview]:
        """The file, in pieces.

        Args:
            document: JSON-able; goes under the one metadata key, with the schema's number added.
        """
        text, places = header(self._specs, {METADATA_KEY: canonical_json({**document, "schema": SCHEMA})})
        yield text
        for name in places:
            if name in self._held:
                yield self._held[name]
            else:
                yield from self._read(self._places[name], self._specs[name].nbytes)

    def _read(self, place: int, nbytes: int) -> Iterator[bytes]:
        assert self._aside is not None
        self._aside.seek(place)
        while nbytes:
            piece = self._aside.read(min(nbytes, _PIECE))
            yield piece
            nbytes -= len(piece)


def container_bytes(tensors: Mapping[str, torch.Tensor], document: Mapping[str, Any]) -> bytes:
    """A whole file as bytes: equal content gives equal bytes, in whatever order `tensors` comes."""
    with closing(Writer()) as writer:
        for name, tensor in tensors.items():
            writer.add(name, tensor)
        return b"".join(writer.chunks(document))
