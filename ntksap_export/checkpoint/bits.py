"""Masks as bits: numpy packs them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from ntksap_export.errors import CheckpointError


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns under which a weight is stored: (out, the rest); a vector is one row.

    A convolution (O, I, kh, kw) becomes (O, I*kh*kw): packed by its own last axis it would spend a byte on
    every row of every kernel.
    """
    if len(shape) < 2:
        return 1, math.prod(shape)
    return shape[0], math.prod(shape[1:])


def pack(kept: torch.Tensor) -> torch.Tensor:
    """Eight columns of a mask to a byte, the first in the lowest bit; each row is filled up with 0.

    Args:
        kept: bool, on the CPU, any shape.

    Returns:
        uint8 of shape (rows, ceil(columns / 8)).
    """
    matrix = kept.reshape(matrix_shape(tuple(kept.shape))).numpy()
    return torch.from_numpy(np.packbits(matrix, axis=1, bitorder="little"))


def packed_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """The shape that `pack` gives a mask of `shape`."""
    rows, columns = matrix_shape(shape)
    return rows, -(-columns // 8)


def row_counts(packed: torch.Tensor) -> npt.NDArray[np.int64]:
    """How many bits are set in each row."""
    counts: npt.NDArray[np.int64] = np.bitwise_count(packed.numpy()).sum(axis=1, dtype=np.int64)
    return counts


def unpack(packed: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The mask of `shape` that `pack` packed.

    Args:
        packed: uint8 of shape `packed_shape(shape)`.
        shape: of the weight; at most `MAX_ELEMENTS` elements.

    Raises:
        CheckpointError: a bit beyond a row's last column is set.
    """
    _, columns = matrix_shape(shape)
    data = packed.numpy()
    used = columns % 8
    if used and bool((data[:, -1] >> used).any()):
        raise CheckpointError(f"its bitmask has bits set beyond column {columns}; the file is damaged")
    bits = np.unpackbits(data, axis=1, count=columns, bitorder="little")
    return torch.from_numpy(bits.view(np.bool_)).reshape(shape)
