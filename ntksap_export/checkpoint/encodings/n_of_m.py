"""n:m: where each group of m weights keeps exactly n, a group is one of C(m, n) choices, and several fit a byte.

Groups run along the input channels, at one kernel position: (O, I, kh, kw) is read as (O, kh, kw, I / m, m).

    number   the group's m bits, its first weight in the lowest; e.g. keep 0 and 3 of 4: 0b1001
    choice   the number's rank among all m-bit numbers with n bits set, the smallest first
    byte     choice_0 + C * choice_1 + C^2 * choice_2 + ... with C = C(m, n), as many as keep it below 256

2:4 takes 2.67 bits a group, or less under zstandard; the bitmask takes 4 as soon as the kernel is wider than 1.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ntksap_export.checkpoint.encodings.encoding import Packing
from ntksap_export.checkpoint.encodings.streams import Bytes
from ntksap_export.checkpoint.encodings.values import Bools
from ntksap_export.errors import CheckpointError

_SIZES: Final = (4, 8, 16, 2)  # of groups tried, the usual one first
_MOST_CHOICES: Final = 256


def positions(kept: Bools, shape: tuple[int, ...]) -> tuple[Bytes, tuple[int, int]] | None:
    """The stream of choices and (n, m); None where no n:m holds exactly."""
    if len(shape) < 2 or not kept.size:
        return None
    filters = kept.reshape(shape[0], shape[1], -1)
    for m in _SIZES:
        if shape[1] % m:
            continue
        counts = np.bitwise_count(_numbers(filters[:1], m))  # of one filter: most masks are told by it
        n = int(counts.flat[0])
        if not 0 < n < m or math.comb(m, n) > _MOST_CHOICES or not (counts == n).all():
            continue
        numbers = _numbers(filters, m)
        if (np.bitwise_count(numbers) == n).all():
            return _stream(numbers, n, m), (n, m)
    return None


def most_bytes(total: int, packing: Packing) -> int:
    """Exactly as many bytes as the groups take."""
    n, m = _checked(packing.group)
    return -(-(total // m) // _per_byte(math.comb(m, n)))


def kept(stream: Bytes, shape: tuple[int, ...], total: int, packing: Packing) -> Bools:
    """Where the weights stand, flat.

    Raises:
        CheckpointError: the groups do not fit the shape, the stream is too short or long, or a choice is none.
    """
    n, m = _checked(packing.group)
    if len(shape) < 2 or shape[1] % m or total // m * n != packing.kept or stream.size != most_bytes(total, packing):
        raise CheckpointError(f"its groups of {n}:{m} contradict its shape {shape}; the file is damaged")
    choices, each = math.comb(m, n), _per_byte(math.comb(m, n))
    in_last = total // m - (stream.size - 1) * each
    if stream.size and (int(stream.max()) >= choices**each or int(stream[-1]) >= choices**in_last):
        raise CheckpointError(f"its stream names choices beyond the {choices} of {n}:{m}; the file is damaged")
    bits = _of_bytes(n, m)[stream].reshape(-1)[:total]
    spread = (shape[0], *shape[2:], shape[1])
    return np.ascontiguousarray(np.moveaxis(bits.reshape(spread), -1, 1)).reshape(-1)


def _numbers(filters: Bools, m: int) -> npt.NDArray[Any]:
    """The number of each group: (O, I, kernel) -> (O, I / m, kernel)."""
    groups = filters.reshape(len(filters), -1, m, filters.shape[2]).view(np.uint8)
    numbers = groups[:, :, 0].astype(np.uint8 if m <= 8 else np.uint16)
    for place in range(1, m):
        np.bitwise_or(numbers, np.left_shift(groups[:, :, place], place, dtype=numbers.dtype), out=numbers)
    return numbers


def _stream(numbers: npt.NDArray[Any], n: int, m: int) -> Bytes:
    choices, each = math.comb(m, n), _per_byte(math.comb(m, n))
    ranks = np.zeros(-(-numbers.size // each) * each, dtype=np.uint8)
    ranks[: numbers.size] = _ranks(n, m)[np.moveaxis(numbers, 1, -1).reshape(-1)]
    packed: Bytes = ranks[::each].copy()
    for place in range(1, each):
        packed += ranks[place::each] * np.uint8(choices**place)  # no sum reaches 256
    return packed


@cache
def _of_bytes(n: int, m: int) -> Bools:
    """Bits of the groups of each byte that may stand in a stream, (C^k, k * m)."""
    numbers = np.arange(2**m).astype("<u2" if m > 8 else np.uint8)
    chosen = numbers[np.bitwise_count(numbers) == n]
    bits = np.unpackbits(chosen.view(np.uint8).reshape(len(chosen), -1), axis=1, count=m, bitorder="little")
    choices, each = len(chosen), _per_byte(len(chosen))
    picked = np.arange(choices**each)[:, None] // choices ** np.arange(each) % choices
    return bits[picked].reshape(choices**each, -1).view(np.bool_)


@cache
def _ranks(n: int, m: int) -> Bytes:
    """Rank of each m-bit number; meaningless where not n bits are set."""
    set_bits = np.bitwise_count(np.arange(2**m)) == n
    ranks: Bytes = (np.cumsum(set_bits) - 1).clip(0).astype(np.uint8)
    return ranks


def _per_byte(choices: int) -> int:
    each = 1
    while choices ** (each + 1) <= _MOST_CHOICES:
        each += 1
    return each


def _checked(group: tuple[int, int] | None) -> tuple[int, int]:
    if group is None:
        raise CheckpointError("its group is missing; the file is damaged")
    n, m = group
    if m not in _SIZES or not 0 < n < m or math.comb(m, n) > _MOST_CHOICES:
        raise CheckpointError(f"its group must be n:m with m in {_SIZES} and at most 256 choices; got {n}:{m}")
    return n, m
