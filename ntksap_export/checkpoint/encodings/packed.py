"""Packed: the stream of positions and the byte planes of the values, one after the other in one U8 tensor.

    NAME.packed    U8 (positions + planes,)    streams in the order of the entry's `bytes`, without gaps

How positions are written differs from encoding to encoding; all else is here. Stored are the mask's kept weights, or,
of a tensor that is not pruned (`mask` is `none`), the elements with any bit set: -0.0 is one, +0 is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from ntksap_export.bit_patterns import patterns
from ntksap_export.checkpoint.container import DTYPE_CODES, DTYPES, Container, check_memory_for
from ntksap_export.checkpoint.encodings import values
from ntksap_export.checkpoint.encodings.encoding import Decoded, Encoded, Entry, Packing, Subject
from ntksap_export.checkpoint.encodings.streams import Bytes, expanded, squeezed
from ntksap_export.checkpoint.encodings.values import Bools
from ntksap_export.errors import CheckpointError
from ntksap_export.quoting import shown


class Positions(Protocol):
    """The functions each way of writing positions has."""

    def positions(self, kept: Bools, shape: tuple[int, ...]) -> tuple[Bytes, tuple[int, int] | None] | None:
        """The raw stream and the entry's group; None where this way cannot tell these positions."""

    def most_bytes(self, total: int, packing: Packing) -> int:
        """Length of the longest raw stream there can be."""

    def kept(self, stream: Bytes, shape: tuple[int, ...], total: int, packing: Packing) -> Bools:
        """The positions back, flat. CheckpointError where they contradict the packing."""


@dataclass(frozen=True, slots=True)
class Packed:
    """One encoding of the family."""

    key: str
    way: Positions

    def parts(self, name: str) -> tuple[str, ...]:
        """Its one tensor in the file."""
        return (f"{name}.packed",)

    def encode(self, subject: Subject) -> Encoded | None:
        """Arrange the tensor; None where it is empty or bool, or where the positions cannot be told this way."""
        if not subject.packable:
            return None
        told = self.way.positions(subject.stored, subject.shape)
        if told is None:
            return None
        raw, group = told
        streams = [squeezed(raw), *subject.planes]
        packing = Packing(
            dtype=DTYPE_CODES[subject.tensor.dtype],
            kept=subject.count,
            positions_bytes=raw.size,
            stored_bytes=tuple(stream.size for stream in streams),
            group=group,
        )
        mask = "none" if subject.kept is None else "full" if subject.count == subject.total else "stored"
        part = self.parts(subject.name)[0]
        return Encoded(
            Entry(self.key, subject.shape, mask, packing),
            {part: sum(packing.stored_bytes)},
            lambda: {part: torch.from_numpy(np.concatenate(streams))},
        )

    def decode(self, name: str, entry: Entry, container: Container) -> Decoded:
        """Read positions, then values.

        Raises:
            CheckpointError: lengths, counts, streams or types contradict each other.
        """
        packing, part = _checked(name, entry), self.parts(name)[0]
        container.expect(part, torch.uint8, (sum(packing.stored_bytes),))
        total, dtype = entry.numel, DTYPES[packing.dtype]
        most = self.way.most_bytes(total, packing)
        if packing.positions_bytes > most:
            raise CheckpointError(
                f"positions of {shown(name)} take at most {most} bytes; got {packing.positions_bytes}"
            )
        check_memory_for(total * dtype.itemsize, name)
        stored, *planes = _cut(container.view(part).numpy(), packing.stored_bytes)
        stream = expanded(stored, packing.positions_bytes, f"stream of positions of {shown(name)}")
        kept = self.way.kept(stream, entry.shape, total, packing)
        count = int(np.count_nonzero(kept))
        if count != packing.kept or (entry.mask == "full" and count != total):
            raise CheckpointError(f"{shown(name)} keeps {count} weights, its metadata says {packing.kept}")
        tensor = torch.zeros(entry.shape, dtype=dtype) if count < total else torch.empty(entry.shape, dtype=dtype)
        bytes_of = [expanded(plane, count, f"byte plane {i} of {shown(name)}") for i, plane in enumerate(planes)]
        values.merge(bytes_of, patterns(tensor), None if count == total else kept)
        if entry.mask == "none":
            return Decoded(tensor, None)
        return Decoded(tensor, torch.from_numpy(kept).reshape(entry.shape))


def _checked(name: str, entry: Entry) -> Packing:
    entry.check_mask(name, "none", "full", "stored")
    packing = entry.packing
    if packing is None:
        raise CheckpointError(
            f"the entry of {shown(name)}, encoded as {entry.encoding}, must have dtype, kept and bytes"
        )
    dtype = DTYPES.get(packing.dtype)
    if dtype is None or dtype == torch.bool:
        raise CheckpointError(f"{shown(name)} has dtype {shown(packing.dtype)}, which is not packed")
    if len(packing.stored_bytes) != dtype.itemsize + 1:
        raise CheckpointError(
            f"{shown(name)} must have {dtype.itemsize} byte planes; got {len(packing.stored_bytes) - 1}"
        )
    if not 0 < entry.numel or packing.kept > entry.numel:
        raise CheckpointError(f"{shown(name)} keeps {packing.kept} of {entry.numel} weights; the file is damaged")
    return packing


def _cut(joined: Bytes, sizes: Sequence[int]) -> list[Bytes]:
    ends = np.cumsum(sizes)
    return [joined[end - size : end] for end, size in zip(ends, sizes, strict=True)]
