"""What a pipeline forbids of a new profile: `p50 > 1.05`, read strictly. Every metric is a ratio, NEW / OLD."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from ntksap_export.errors import ConfigError

METRICS: Final = ("p50", "p90", "p95", "p99", "mean", "throughput", "load_delta", "run_peak", "file_size")
_OPERATORS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
}  # fmt: skip
_FORM: Final = re.compile(r"\s*(\w+)\s*(>=|<=|>|<)\s*([0-9]+(?:\.[0-9]+)?)\s*", re.ASCII)

Outcome = Literal["met", "not met", "undecided"]


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that must not hold of any cell.

    Attributes:
        metric: one of `METRICS`.
        relation: `>`, `>=`, `<` or `<=`.
        limit: of the ratio, above 0.
    """

    metric: str
    relation: str
    limit: float

    def __str__(self) -> str:
        return f"{self.metric} {self.relation} {self.limit:g}"

    def holds(self, ratio: float) -> bool:
        """Whether the ratio is what must not be."""
        return _OPERATORS[self.relation](ratio, self.limit)

    def judge(self, ratio: float, low: float, high: float) -> Outcome:
        """`met` if all of the ratio's interval is beyond the limit, `undecided` if the limit is in the interval."""
        if self.holds(low) and self.holds(high):
            return "met"
        if low <= self.limit <= high and low < high:
            return "undecided"
        return "met" if self.holds(ratio) else "not met"

    def excess(self, ratio: float) -> float:
        """How far the ratio is on the forbidden side, on a logarithmic scale; the worst cell has the greatest."""
        distance = math.log(ratio / self.limit)
        return distance if self.relation[0] == ">" else -distance


def read_conditions(texts: Iterable[str]) -> tuple[Condition, ...]:
    """Conditions as they are typed, several in a text with commas between.

    Raises:
        ConfigError: one is not METRIC OP NUMBER, or there is no such metric.
    """
    return tuple(_read(part) for text in texts for part in text.split(","))


def _read(text: str) -> Condition:
    found = _FORM.fullmatch(text)
    if found is None:
        raise ConfigError(f"--fail-if takes METRIC OP NUMBER, as 'p50 > 1.05'; got {text[:80]!a}")
    metric, relation, number = found.groups()
    if metric not in METRICS:
        raise ConfigError(f"--fail-if knows no metric {metric[:80]!a}; known: {', '.join(METRICS)}")
    limit = float(number)
    if not 0 < limit < math.inf:
        raise ConfigError(f"--fail-if holds NEW / OLD against a number above 0; got {text.strip()[:80]!a}")
    return Condition(metric, relation, limit)
