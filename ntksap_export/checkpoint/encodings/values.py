"""Values as byte planes: all lowest bytes in a row, then all second ones, and so on up to the sign and exponent.

Weights are spread evenly over mantissas and bunched in exponents: the planes of the mantissa stay as they are, that of
the exponent shrinks to about a third, and no bit is lost. Work goes piece by piece, in memory that fits the cache.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ntksap_export.checkpoint.encodings.streams import Bytes

Bools = npt.NDArray[np.bool_]
PIECE: Final = 1 << 18  # elements
_LOWEST_FIRST: Final = 1 if sys.byteorder == "little" else -1


def split(values: npt.NDArray[Any], kept: Bools | None) -> list[Bytes]:
    """Byte planes of the kept values.

    Args:
        values: integers, flat; bit patterns of a tensor.
        kept: which of them, or None for all.

    Returns:
        As many as a value has bytes, lowest byte first; each of one byte per kept value.
    """
    size = values.dtype.itemsize
    count = values.size if kept is None else int(np.count_nonzero(kept))
    planes = [np.empty(count, dtype=np.uint8) for _ in range(size)]
    for start, stop, places in _pieces(values.size, kept):
        chosen = values[places] if kept is None else values[places.start : places.stop][np.flatnonzero(kept[places])]
        columns = chosen.view(np.uint8).reshape(-1, size)[:, ::_LOWEST_FIRST]
        for index, plane in enumerate(planes):
            plane[start:stop] = columns[:, index]
    return planes


def merge(planes: list[Bytes], values: npt.NDArray[Any], kept: Bools | None) -> None:
    """The opposite of `split`: write the planes' values into `values`, in place, where kept; leave the rest.

    Args:
        planes: lowest byte first.
        values: integers, flat, as wide as there are planes.
        kept: where, as many as a plane has bytes; None for everywhere.
    """
    unsigned = values.view(f"u{values.dtype.itemsize}")
    for start, stop, places in _pieces(values.size, kept):
        found = _joined([plane[start:stop] for plane in planes])
        if kept is None:
            unsigned[places] = found
        else:
            unsigned[places][np.flatnonzero(kept[places])] = found


def _joined(planes: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Unsigned integers of which `planes` are the bytes, the lowest first: pair by pair, which vectorizes."""
    width = 1  # bytes of one of `planes`
    while len(planes) > 1:
        wide = np.dtype(f"u{2 * width}")
        pairs = zip(planes[::2], planes[1::2], strict=True)
        planes = [np.bitwise_or(np.left_shift(high, 8 * width, dtype=wide), low) for low, high in pairs]
        width *= 2
    return planes[0]


def _pieces(total: int, kept: Bools | None) -> Iterator[tuple[int, int, slice]]:
    """For each piece of the elements: from where to where in the planes, and its slice of the elements."""
    done = 0
    for start in range(0, total, PIECE):
        places = slice(start, min(start + PIECE, total))
        count = places.stop - start if kept is None else int(np.count_nonzero(kept[places]))
        yield done, done + count, places
        done += count
