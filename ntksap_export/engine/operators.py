"""A plan as data: what the sparse engine does, in the order in which it does it (docs/engine-plan.md).

Tensors are numbered; each is written once, as an input of the plan or as the `output` of one operator, before it is
read. The batch is not part of a shape: every plan takes any.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Act(IntEnum):
    """What follows an operator, with its numbers a and b."""

    NONE = 0
    RELU = 1
    CLIP = 2  # min(max(x, a), b)
    LEAKY_RELU = 3  # x < 0 ? a * x : x
    HARD_SIGMOID = 4  # min(max(a * x + b, 0), 1)
    HARD_SWISH = 5  # x * min(max(x / 6 + 1 / 2, 0), 1)
    SIGMOID = 6
    SILU = 7  # x * sigmoid(x)
    TANH = 8
    ELU = 9  # x < 0 ? a * (exp(x) - 1) : x


class PoolMode(IntEnum):
    """What a window gives: its largest value, the mean of what lies inside, or of the window with its padding."""

    MAX = 0
    AVERAGE_INSIDE = 1
    AVERAGE_PADDED = 2


@dataclass(frozen=True, slots=True)
class Tensor:
    """Shape of a value without its batch: rank 4 is (N, C, H, W), rank 2 is (N, C) with height = width = 1."""

    channels: int
    height: int = 1
    width: int = 1
    rank: int = 4

    @classmethod
    def of(cls, sizes: Sequence[int]) -> Tensor:
        """Of the axes behind the batch: C, or C, H and W."""
        if len(sizes) == 1:
            return cls(sizes[0], rank=2)
        channels, height, width = sizes
        return cls(channels, height, width)

    @property
    def size(self) -> int:
        """Numbers of one image."""
        return self.channels * self.height * self.width


@dataclass(frozen=True, slots=True)
class Activation:
    """A function applied to each number."""

    act: Act = Act.NONE
    a: float = 0.0
    b: float = 0.0


@dataclass(frozen=True, slots=True)
class Window:
    """What a convolution or a pool looks at. A convolution's bottom and right follow from its output and are 0 here."""

    kh: int = 1
    kw: int = 1
    sh: int = 1
    sw: int = 1
    dh: int = 1
    dw: int = 1
    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns from the first to the last position looked at."""
        return (self.kh - 1) * self.dh + 1, (self.kw - 1) * self.dw + 1


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A convolution's matrix (rows, columns), dense or as the entries of its rows.

    Row o is of output channel o, column k = (c * kh + ky) * kw + kx runs over all input channels.

    Attributes:
        rows: output channels.
        columns: input channels * kh * kw.
        values: float32; all of them row by row, or those of the entries.
        counts: entries of each row; None: dense.
        places: columns of the entries, ascending in each row; None: dense.
    """

    rows: int
    columns: int
    values: Array
    counts: Array | None = None
    places: Array | None = None

    @classmethod
    def of(cls, kernel: Array, groups: int = 1) -> Weights:
        """In the smaller of the two forms.

        Args:
            kernel: (out, in / groups, kh, kw).
            groups: as of ONNX's Conv; the rows of one name its input channels only.
        """
        rows, own = kernel.shape[0], math.prod(kernel.shape[1:])
        flat = np.ascontiguousarray(kernel, np.float32).reshape(rows, own)
        kept = flat != 0
        counts = np.count_nonzero(kept, axis=1)
        entries = int(counts.sum())
        if groups == 1 and 4 * rows + 6 * entries >= 4 * flat.size:
            return cls(rows, own, flat.reshape(-1))
        begins = np.arange(rows) // max(rows // groups, 1) * own  # first column of each row's group
        found = np.flatnonzero(kept)
        places = (found - np.repeat(np.arange(rows) * own - begins, counts)).astype(column_type(own * groups))
        return cls(rows, own * groups, flat.ravel()[found], counts, places)

    def dense(self) -> Array:
        """The matrix (rows, columns)."""
        if self.counts is None or self.places is None:
            return self.values.reshape(self.rows, self.columns)
        matrix = np.zeros((self.rows, self.columns), np.float32)
        matrix[np.repeat(np.arange(self.rows), self.counts), self.places] = self.values
        return matrix


def column_type(columns: int) -> type[Any]:
    """The smaller integer that numbers so many columns."""
    return np.int32 if columns <= 2**31 else np.int64


@dataclass(frozen=True, slots=True, eq=False)
class Conv:
    """act(weights * x + bias + residual); `inputs` is x, or x and the residual. What is read outside x is 0."""

    inputs: tuple[int, ...]
    output: int
    window: Window
    weights: Weights
    bias: Array | None = None
    activation: Activation = Activation()


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool over windows."""

    inputs: tuple[int, ...]
    output: int
    window: Window
    mode: PoolMode


@dataclass(frozen=True, slots=True)
class GlobalPool:
    """A pool over the whole plane, `MAX` or `AVERAGE_INSIDE`."""

    inputs: tuple[int, ...]
    output: int
    mode: PoolMode


@dataclass(frozen=True, slots=True)
class Add:
    """Sum of two of one shape."""

    inputs: tuple[int, ...]
    output: int
    activation: Activation = Activation()


@dataclass(frozen=True, slots=True)
class Mul:
    """Product of two of one shape, or of one and a second (C, 1, 1)."""

    inputs: tuple[int, ...]
    output: int
    activation: Activation = Activation()


@dataclass(frozen=True, slots=True)
class Concat:
    """The channels of the inputs one after the other."""

    inputs: tuple[int, ...]
    output: int


@dataclass(frozen=True, slots=True)
class Activate:
    """The activation alone; `NONE` copies."""

    inputs: tuple[int, ...]
    output: int
    activation: Activation = Activation()


@dataclass(frozen=True, slots=True)
class Flatten:
    """(C, H, W) to (C * H * W); also between (C, 1, 1) and (C)."""

    inputs: tuple[int, ...]
    output: int


Operator = Conv | Pool | GlobalPool | Add | Mul | Concat | Activate | Flatten


@dataclass(frozen=True, slots=True)
class Plan:
    """Tensors, which of them come in and go out, and the operators in order."""

    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]
