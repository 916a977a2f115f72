"""What an encoding is: a way to put one tensor, and the mask on it, into the tensors of a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from ntksap_export.checkpoint.container import Container, shape_from_json, shown
from ntksap_export.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor's line in the metadata.

    Attributes:
        encoding: a key of `ENCODINGS`.
        shape: the tensor's true shape; the file may hold a flattened one.
        mask: where its mask is: `none` (it is not pruned), `full` (all kept), `nonzero` (kept where any bit
            of the value is set), or `bitmask` (stored beside it).
    """

    encoding: str
    shape: tuple[int, ...]
    mask: str

    def to_json(self) -> dict[str, Any]:
        """As it stands in the metadata."""
        return {"encoding": self.encoding, "shape": list(self.shape), "mask": self.mask}

    @classmethod
    def from_json(cls, name: str, value: Any) -> Entry:
        """From the metadata.

        Args:
            name: of the tensor, for the message.
            value: parsed JSON.

        Raises:
            CheckpointError: a key is missing, unknown, or of another type.
        """
        if not isinstance(value, dict) or set(value) != {"encoding", "shape", "mask"}:
            raise CheckpointError(f"the entry of {shown(name)} must have encoding, shape and mask; got {shown(value)}")
        if not isinstance(value["encoding"], str) or not isinstance(value["mask"], str):
            raise CheckpointError(f"encoding and mask of {shown(name)} must be words; got {shown(value)}")
        return cls(value["encoding"], shape_from_json(value["shape"]), value["mask"])

    def check_mask(self, name: str, *known: str) -> None:
        """Check that the mask is one of `known`.

        Raises:
            CheckpointError: it is another word.
        """
        if self.mask not in known:
            raise CheckpointError(
                f"the mask of {shown(name)}, encoded as {self.encoding}, must be one of {', '.join(known)}; "
                f"got {shown(self.mask)}"
            )


@dataclass(frozen=True, slots=True)
class Encoded:
    """One tensor, ready to be written."""

    entry: Entry
    parts: Mapping[str, torch.Tensor]

    @property
    def nbytes(self) -> int:
        """Bytes the values take in the file."""
        return sum(part.nbytes for part in self.parts.values())


@dataclass(frozen=True, slots=True)
class Decoded:
    """One tensor, read: its values, and where they were kept (None: not pruned)."""

    tensor: torch.Tensor
    kept: torch.Tensor | None


class Encoding(Protocol):
    """The functions each encoding's module has. Tensors are contiguous, on the CPU, and 0 where not kept."""

    def parts(self, name: str) -> tuple[str, ...]:
        """Names of the file's tensors that hold `name`."""

    def cost_bytes(self, tensor: torch.Tensor, kept: torch.Tensor | None) -> int | None:
        """Bytes it would take; None where it would lose something."""

    def encode(self, name: str, tensor: torch.Tensor, kept: torch.Tensor | None) -> Encoded:
        """Arrange the tensor for the file; only asked where `cost_bytes` is a number."""

    def decode(self, name: str, entry: Entry, container: Container) -> Decoded:
        """Read it back, bit for bit. CheckpointError where the file contradicts itself."""
