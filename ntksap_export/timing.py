"""Calls that were timed, as one number and how sure it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Timing:
    """The median of calls in milliseconds, its 95 % interval, and how many calls there were."""

    ms: float
    low_ms: float
    high_ms: float
    runs: int

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
