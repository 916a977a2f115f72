"""Values as bit patterns, for any dtype: numpy sees integers, and never a bfloat16."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy.typing as npt
import torch

INTEGERS: Final[Mapping[int, torch.dtype]] = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Bytes of a value -> the type of its pattern."""


def patterns(tensor: torch.Tensor) -> npt.NDArray[Any]:
    """All values' bit patterns in a row, as integers: these tell NaN, -0.0 and subnormals apart.

    Shares the tensor's memory.

    Args:
        tensor: contiguous, on the CPU.
    """
    integers: npt.NDArray[Any] = tensor.view(-1).view(INTEGERS[tensor.dtype.itemsize]).numpy()
    return integers


def any_bit_set(tensor: torch.Tensor) -> torch.Tensor:
    """Where a value is anything but +0; -0.0 and subnormals count, whatever the processor's flush mode."""
    return torch.from_numpy(patterns(tensor) != 0).reshape(tensor.shape)
