"""Writes a safetensors file tensor by tensor: nothing but the one being added need be in memory.

The bytes of a file depend on its content alone: wide dtypes come first, so that every tensor is aligned, then names in
order; a single metadata key holding canonical JSON leaves no order to chance.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
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
    """Collects tensors, then writes them behind their header."""

    def __init__(self, directory: Path | None = None) -> None:
        """Args: where to put aside what memory should not hold; it must have room for the file once more."""
        self._aside: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - `close` closes it
            _IN_MEMORY, dir=None if directory is None else str(directory)
        )
        self._where: dict[str, tuple[int, Spec]] = {}  # name -> place aside
        self.nbytes = 0

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each tensor."""
        return {name: spec.nbytes for name, (_, spec) in self._where.items()}

    def close(self) -> None:
        """Drop what was put aside."""
        self._aside.close()

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Put one tensor aside.

        Args:
            name: not added before.
            tensor: contiguous, on the CPU, of a dtype in `DTYPES`.
        """
        assert name not in self._where
        self._where[name] = (self.nbytes, Spec(tensor.dtype, tuple(tensor.shape)))
        if tensor.nbytes:
            self._aside.write(tensor.view(-1).view(torch.uint8).numpy().data)
        self.nbytes += tensor.nbytes

    def write(self, file: IO[bytes], document: Mapping[str, Any]) -> None:
        """Write header and tensors.

        Args:
            file: to write to.
            document: JSON-able; goes under the one metadata key, with the schema's number added.
        """
        metadata = {METADATA_KEY: canonical_json({**document, "schema": SCHEMA})}
        text, places = header({name: spec for name, (_, spec) in self._where.items()}, metadata)
        file.write(text)
        for name in places:
            place, spec = self._where[name]
            self._copy(place, spec.nbytes, file)

    def _copy(self, place: int, nbytes: int, file: IO[bytes]) -> None:
        self._aside.seek(place)
        while nbytes:
            piece = self._aside.read(min(nbytes, _PIECE))
            file.write(piece)
            nbytes -= len(piece)


def container_bytes(tensors: Mapping[str, torch.Tensor], document: Mapping[str, Any]) -> bytes:
    """A whole file as bytes: equal content gives equal bytes, in whatever order `tensors` comes."""
    with closing(Writer()) as writer, io.BytesIO() as file:
        for name, tensor in tensors.items():
            writer.add(name, tensor)
        writer.write(file, document)
        return file.getvalue()
