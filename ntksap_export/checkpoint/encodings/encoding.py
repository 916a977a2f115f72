"""What an encoding is: a way to put one tensor, and the mask on it, into the tensors of a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol

import numpy as np
import torch

from ntksap_export.atomic import canonical_json
from ntksap_export.bit_patterns import any_bit_set, patterns
from ntksap_export.checkpoint.container import MAX_ELEMENTS, Container, shape_from_json
from ntksap_export.checkpoint.encodings.streams import Bytes, squeezed
from ntksap_export.checkpoint.encodings.values import Bools, split
from ntksap_export.errors import CheckpointError
from ntksap_export.quoting import shown

_MOST_FILLED: Final = 0.9  # above this share of others, zeros of what is not pruned are stored like the rest
_HEADER_LINE: Final = 60  # bytes of a tensor's line in the header, beside its name


@dataclass(frozen=True, slots=True)
class Packing:
    """How a packed tensor lies in its bytes.

    Attributes:
        dtype: of the values, as safetensors names it.
        kept: values that are stored.
        positions_bytes: length of the raw stream of positions.
        stored_bytes: lengths in the file: of the stream of positions, then of each byte plane, lowest first.
        group: (n, m) where the encoding is n:m.
    """

    dtype: str
    kept: int
    positions_bytes: int
    stored_bytes: tuple[int, ...]
    group: tuple[int, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """As it stands in an entry."""
        told: dict[str, Any] = {
            "dtype": self.dtype,
            "kept": self.kept,
            "raw": self.positions_bytes,
            "bytes": list(self.stored_bytes),
        }
        return told if self.group is None else {**told, "group": list(self.group)}

    @classmethod
    def from_json(cls, name: str, value: Mapping[str, Any]) -> Packing:
        """From an entry.

        Raises:
            CheckpointError: a number is missing, negative, no number, or larger than any file.
        """
        dtype, sizes, group = value.get("dtype"), value.get("bytes"), value.get("group")
        counts = [value.get("kept"), value.get("raw"), *(sizes if isinstance(sizes, list) else [None])]
        counts += [] if group is None else group if isinstance(group, list) and len(group) == 2 else [None]
        if not isinstance(dtype, str) or not all(type(count) is int and 0 <= count <= MAX_ELEMENTS for count in counts):
            raise CheckpointError(
                f"the entry of {shown(name)} must have dtype, kept, raw and bytes; got {shown(value)}"
            )
        return cls(dtype, value["kept"], value["raw"], tuple(value["bytes"]), None if group is None else tuple(group))


_PLAIN_KEYS: Final = {"encoding", "shape", "mask"}
_PACKING_KEYS: Final = {"dtype", "kept", "raw", "bytes"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor's line in the metadata.

    Attributes:
        encoding: a key of `ENCODINGS`.
        shape: the tensor's true shape; the file may hold a flattened one.
        mask: where its mask is: `none` (it is not pruned), `full` (all kept), `nonzero` (kept where any bit
            of the value is set), `bitmask` (stored beside it), or `stored` (the positions of what is packed).
        packing: of the packed encodings.
    """

    encoding: str
    shape: tuple[int, ...]
    mask: str
    packing: Packing | None = None

    @property
    def numel(self) -> int:
        """Elements of the tensor."""
        return math.prod(self.shape)

    @property
    def implied(self) -> bool:
        """Whether it need not be written: a tensor as it is, not pruned."""
        return self.encoding == "dense" and self.mask == "none"

    def to_json(self) -> dict[str, Any]:
        """As it stands in the metadata."""
        plain = {"encoding": self.encoding, "shape": list(self.shape), "mask": self.mask}
        return plain if self.packing is None else {**plain, **self.packing.to_json()}

    @classmethod
    def from_json(cls, name: str, value: Any) -> Entry:
        """From the metadata.

        Args:
            name: of the tensor, for the message.
            value: parsed JSON.

        Raises:
            CheckpointError: a key is missing, unknown, or of another type.
        """
        keys = set(value) - {"group"} if isinstance(value, dict) else set()
        if keys not in (_PLAIN_KEYS, _PLAIN_KEYS | _PACKING_KEYS):
            raise CheckpointError(f"the entry of {shown(name)} must have encoding, shape and mask; got {shown(value)}")
        if not isinstance(value["encoding"], str) or not isinstance(value["mask"], str):
            raise CheckpointError(f"encoding and mask of {shown(name)} must be words; got {shown(value)}")
        packing = Packing.from_json(name, value) if keys != _PLAIN_KEYS else None
        return cls(value["encoding"], shape_from_json(value["shape"]), value["mask"], packing)

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


class Subject:
    """One tensor to be encoded; what several encodings need of it is worked out once, when first asked for."""

    def __init__(self, name: str, tensor: torch.Tensor, kept: torch.Tensor | None) -> None:
        """Args: a tensor on the CPU, contiguous, all bits 0 where not kept; `kept` None where it is not pruned."""
        self.name = name
        self.tensor = tensor
        self.kept = kept
        self.shape = tuple(tensor.shape)
        self.total = tensor.numel()

    @property
    def packable(self) -> bool:
        """Whether the packed encodings take it at all."""
        return self.total > 0 and self.tensor.dtype != torch.bool

    @cached_property
    def stored(self) -> Bools:
        """What a sparse encoding stores, flat: the kept weights; of what is not pruned, all that is not +0, or all."""
        if self.kept is not None:
            return self.kept.reshape(-1).numpy()
        filled = any_bit_set(self.tensor).reshape(-1).numpy()
        return filled if np.count_nonzero(filled) <= _MOST_FILLED * self.total else np.ones(self.total, dtype=np.bool_)

    @cached_property
    def count(self) -> int:
        """How many it stores."""
        return int(np.count_nonzero(self.stored))

    @cached_property
    def planes(self) -> list[Bytes]:
        """Byte planes of what is stored, each as short as it gets."""
        kept = None if self.count == self.total else self.stored
        return [squeezed(plane) for plane in split(patterns(self.tensor), kept)]


@dataclass(frozen=True, slots=True)
class Encoded:
    """One tensor as an encoding would write it; nothing is put together for what is not chosen.

    Attributes:
        entry: its line in the metadata.
        sizes: bytes of each part.
        arrange: gives the parts.
    """

    entry: Entry
    sizes: Mapping[str, int]
    arrange: Callable[[], Mapping[str, torch.Tensor]]

    @property
    def nbytes(self) -> int:
        """Bytes the values take in the file."""
        return sum(self.sizes.values())

    @property
    def cost_bytes(self) -> int:
        """About what it adds to the file: its values, and its lines in header and metadata."""
        text = 0 if self.entry.implied else len(canonical_json(self.entry.to_json()))
        return self.nbytes + text + sum(2 * len(part) + _HEADER_LINE for part in self.sizes)


@dataclass(frozen=True, slots=True)
class Decoded:
    """One tensor, read: its values, and where they were kept (None: not pruned)."""

    tensor: torch.Tensor
    kept: torch.Tensor | None


class Encoding(Protocol):
    """The functions each encoding has. Tensors are contiguous, on the CPU, and 0 where not kept."""

    def parts(self, name: str) -> tuple[str, ...]:
        """Names of the file's tensors that hold `name`."""

    def encode(self, subject: Subject) -> Encoded | None:
        """Arrange the tensor for the file; None where this encoding would lose something or does not apply."""

    def decode(self, name: str, entry: Entry, container: Container) -> Decoded:
        """Read it back, bit for bit. CheckpointError where the file contradicts itself."""
