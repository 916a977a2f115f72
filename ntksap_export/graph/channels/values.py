"""Values with channels on their second axis, and which channels must live and die together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Value:
    """What is known of a value (N, C, ...).

    Attributes:
        ids: (C,) of `Classes`: channels of one class are removed together.
        constant: (C,) the number that a channel is at every place of every image; NaN where there is none.
    """

    ids: Ids
    constant: Numbers


class Classes:
    """Sets of channels, merged where an operator needs several values to have the same channels."""

    def __init__(self) -> None:
        self._parents: list[int] = []

    def __len__(self) -> int:
        return len(self._parents)

    def make(self, count: int) -> Ids:
        """So many new classes of one channel each."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def merge(self, values: Sequence[Ids]) -> Ids:
        """Make one class of the channels at each place."""
        for ids in values[1:]:
            for left, right in zip(values[0].tolist(), ids.tolist(), strict=True):
                a, b = self._root(left), self._root(right)
                self._parents[max(a, b)] = min(a, b)
        return values[0]

    def roots(self) -> Ids:
        """(number of ids,): the class that each id is in now."""
        return np.array([self._root(item) for item in range(len(self._parents))], dtype=np.int64)

    def _root(self, item: int) -> int:
        while self._parents[item] != item:
            self._parents[item] = self._parents[self._parents[item]]
            item = self._parents[item]
        return item
