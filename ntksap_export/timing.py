"""Calls that were timed, as one number and how sure it is. Imports nothing: measuring processes are small."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_Z = 1.96  # 95 % of a normal distribution


@dataclass(frozen=True, slots=True)
class Timing:
    """The median of calls in milliseconds, its 95 % interval, and how many calls there were."""

    ms: float
    low_ms: float
    high_ms: float
    runs: int

    @classmethod
    def of(cls, times_ms: Sequence[float]) -> Timing:
        """From one duration per call, at least one.

        The interval is one of order statistics (no distribution is assumed): ranks n / 2 -+ 1.96 sqrt(n) / 2.
        """
        ordered = sorted(times_ms)
        count = len(ordered)
        reach = _Z * math.sqrt(count) / 2
        low, high = max(0, math.floor(count / 2 - reach)), min(count - 1, math.ceil(count / 2 + reach))
        middle = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
        return cls(middle, ordered[low], ordered[high], count)

    def to_json(self) -> list[float]:
        """A row of numbers, rounded to nanoseconds; `from_json` reads it."""
        return [round(self.ms, 6), round(self.low_ms, 6), round(self.high_ms, 6), self.runs]

    @classmethod
    def from_json(cls, row: Any) -> Timing:
        """What `to_json` wrote.

        Raises:
            ValueError: it is none.
        """
        if not isinstance(row, list) or len(row) != 4 or any(type(value) not in (int, float) for value in row):
            raise ValueError("a timing is a row of four numbers")
        ms, low, high, runs = row
        if not 0 < low <= ms <= high < math.inf or type(runs) is not int or runs < 1:
            raise ValueError("a timing is a median within its interval, above 0, and a number of runs")
        return cls(float(ms), float(low), float(high), runs)
