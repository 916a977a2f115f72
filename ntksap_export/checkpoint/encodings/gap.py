"""Gap: how many pruned weights stand before each kept one, a byte each.

    gap = 255 * a + r, r < 255      is written as `a` bytes 255, then the byte r
    weights after the last kept one are not written

Gaps of a random mask follow a geometric law, which an entropy coder brings within 2 % of the bound log2 C(n, k).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ntksap_export.checkpoint.encodings.encoding import Packing
from ntksap_export.checkpoint.encodings.streams import Bytes
from ntksap_export.checkpoint.encodings.values import Bools
from ntksap_export.errors import CheckpointError

_LONG: Final = 255
_PIECE: Final = 1 << 17  # weights, or bytes of the stream, taken at a time


def positions(kept: Bools, shape: tuple[int, ...]) -> tuple[Bytes, None]:  # noqa: ARG001
    """The stream of gaps."""
    parts: list[Bytes] = []
    last = -1
    for start in range(0, kept.size, _PIECE):
        places = np.flatnonzero(kept[start : start + _PIECE]) + start
        if places.size:
            parts.append(_stream(np.diff(places, prepend=last) - 1))
            last = int(places[-1])
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.uint8), None


def _stream(gaps: npt.NDArray[np.int64]) -> Bytes:
    ends = np.cumsum(gaps // _LONG + 1) - 1
    stream = np.full(int(ends[-1]) + 1, _LONG, dtype=np.uint8)
    stream[ends] = gaps % _LONG
    return stream


def most_bytes(total: int, packing: Packing) -> int:
    """Longest stream there can be: a byte per kept weight, and one per 255 others."""
    return packing.kept + total // _LONG


def kept(stream: Bytes, shape: tuple[int, ...], total: int, packing: Packing) -> Bools:  # noqa: ARG001
    """Where the stream's weights stand, flat.

    Raises:
        CheckpointError: it holds another number of weights, ends within a gap, or runs over the end.
    """
    found = np.zeros(total, dtype=np.bool_)
    at, count = -1, 0
    for start in range(0, stream.size, _PIECE):
        piece = stream[start : start + _PIECE]
        ends = np.flatnonzero(piece != _LONG)
        # a kept weight is one step further than the pruned ones before it
        places = at + np.cumsum(piece, dtype=np.int64)[ends] + np.arange(1, ends.size + 1)
        if places.size and int(places[-1]) >= total:
            raise CheckpointError("its gaps run over the tensor's end; the file is damaged")
        found[places] = True
        count += ends.size
        at += int(piece.sum(dtype=np.int64)) + ends.size
    if count != packing.kept or (stream.size and int(stream[-1]) == _LONG):
        raise CheckpointError(f"its gaps hold {count} weights, its metadata says {packing.kept}; the file is damaged")
    return found
