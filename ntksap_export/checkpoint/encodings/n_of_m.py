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
    for m in _SIZES:
        if len(shape) < 2 or shape[1] % m or not kept.size:
            continue
        n = int(np.count_nonzero(_grouped(kept, shape, m, rows=1)[0]))
        if not 0 < n < m or math.comb(m, n) > _MOST_CHOICES or not _each(_grouped(kept, shape, m, rows=1), n):
            continue
        groups = _grouped(kept, shape, m)
        if _each(groups, n):
            return _stream(groups, n), (n, m)
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


def _grouped(kept: Bools, shape: tuple[int, ...], m: int, rows: int | None = None) -> Bools:
    # (O, I, *kernel) -> (O, *kernel, I) -> (groups, m); of the first `rows` output channels alone, if given
    return np.ascontiguousarray(np.moveaxis(kept.reshape(shape)[:rows], 1, -1)).reshape(-1, m)


def _each(groups: Bools, n: int) -> bool:
    return bool((groups.sum(axis=1, dtype=np.uint8) == n).all())


def _stream(groups: Bools, n: int) -> Bytes:
    m = groups.shape[1]
    choices, each = math.comb(m, n), _per_byte(math.comb(m, n))
    ranks = np.zeros(-(-len(groups) // each) * each, dtype=np.uint8)
    ranks[: len(groups)] = _ranks(n, m)[_numbers(groups)]
    powers = np.array([choices**place for place in range(each)], dtype=np.uint16)
    packed: Bytes = (ranks.reshape(-1, each) * powers).sum(axis=1, dtype=np.uint16).astype(np.uint8)
    return packed


def _numbers(groups: Bools) -> npt.NDArray[Any]:
    m = groups.shape[1]
    packed = np.packbits(groups, axis=1, bitorder="little")
    return packed.reshape(-1) if m <= 8 else packed.view("<u2").reshape(-1)


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
