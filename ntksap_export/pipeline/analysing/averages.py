"""Several draws of the initialization as one: the mean of every number, and how far the draws are apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def mean_of(draws: Sequence[Any]) -> Any:
    """The mean of equally built JSON values, number by number; of lists place by place, so of eigenvalues by rank.

    What is no number is that of the first draw. Whole numbers that all draws share stay whole. A number that one draw
    lacks (None: infinite) has no mean: None.
    """
    first = draws[0]
    if isinstance(first, dict):
        return {key: mean_of([draw[key] for draw in draws]) for key in first}
    if isinstance(first, list):
        return [mean_of(list(items)) for items in zip(*draws, strict=True)]
    if any(draw is None for draw in draws):
        return None
    if isinstance(first, bool | str) or all(draw == first for draw in draws):
        return first
    return math.fsum(draws) / len(draws)


def deviation_of(draws: Sequence[Any]) -> Any:
    """Their standard deviation (divisor N - 1) in the same form; what counts or names something is left out."""
    first = draws[0]
    if isinstance(first, dict):
        found = {key: deviation_of([draw[key] for draw in draws]) for key in first}
        return {key: value for key, value in found.items() if value is not None}
    if isinstance(first, list):
        return [deviation_of(list(items)) for items in zip(*draws, strict=True)]
    if not all(isinstance(draw, float) for draw in draws):
        return None
    middle = math.fsum(draws) / len(draws)
    return math.sqrt(math.fsum((draw - middle) ** 2 for draw in draws) / (len(draws) - 1))
