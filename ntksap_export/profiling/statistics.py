"""From raw times to numbers with their doubts.

Runs of one turn resemble each other (same clock, same neighbours), so a thousand of them know less than a thousand
independent ones. The unit here is the turn: its median is one observation, and an interval rests on how far the turns
lie apart. Turns are closer to independent, because other cells ran between them, but a slow drift correlates them too;
then the interval is too narrow, and the drift is named beside it (`noise`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (50.0, 90.0, 95.0, 99.0)
CI_LEVEL = 0.95
MIN_TURNS = 6  # below, no two of the turns' medians enclose the median with 95 %
DRAWS = 2000


def summarize(times_ms: Sequence[float], batch: int, percentiles: Sequence[float] = PERCENTILES) -> dict[str, Any]:
    """Percentiles (linear interpolation), mean, spread, and throughput at the median.

    Args:
        times_ms: one duration per run, in milliseconds; at least one.
        batch: images per run.
        percentiles: in (0, 100]; the median is there in any case.
    """
    values = np.asarray(times_ms, dtype=np.float64)
    quarter, median, three_quarters = np.percentile(values, (25, 50, 75))
    levels = sorted({50.0, *percentiles})
    latency = {percentile_name(level): float(np.percentile(values, level)) for level in levels}
    return {
        "latency_ms": {
            **latency,
            "mean": float(values.mean()),
            "min": float(values.min()),
            "max": float(values.max()),
            "iqr": float(three_quarters - quarter),
        },
        "throughput_images_per_s": batch * 1000.0 / float(median) if median else 0.0,
        "runs": len(values),
    }


def percentile_name(level: float) -> str:
    """`p50`, `p99.9`."""
    return f"p{level:g}"


def median_interval(medians: Sequence[float]) -> tuple[float, float, float]:
    """Interval of the median, and its level: order statistics of the turns' medians.

    The chance that the median of independent turns lies outside the k-th smallest and the k-th largest of n is twice
    P(Binomial(n, 1/2) < k), whatever the distribution. The largest k is taken with which that is at most 5 %; fewer
    than six turns allow no such k, and the level says what their whole range is worth.
    """
    ordered, n = sorted(medians), len(medians)
    tail, k = 0.5**n, 1
    while k < n - k and (tail + math.comb(n, k) * 0.5**n) * 2 <= 1 - CI_LEVEL:
        tail += math.comb(n, k) * 0.5**n
        k += 1
    level = 1 - 2 * tail
    return ordered[k - 1], ordered[n - k], CI_LEVEL if level >= CI_LEVEL else max(level, 0.0)


def ratio_interval(
    times: Mapping[int, float], baseline: Mapping[int, float], draws: int = DRAWS, seed: int = 0
) -> tuple[float, float, float] | None:
    """Ratio of the median turn to the baseline's, with its 95 % interval; None without a common turn.

    Turns are drawn in pairs (the n-th of both: they met the same machine), with replacement, and the ratio is taken of
    each draw; the interval is what lies between the 2.5th and the 97.5th percentile. `seed` makes it repeatable.

    Args:
        times: the median of each turn, by the turn's number.
        baseline: the same of what it is compared with.
        draws: how often.
        seed: of the draws.
    """
    common = sorted(times.keys() & baseline.keys())
    if not common:
        return None
    mine, other = (np.array([each[turn] for turn in common]) for each in (times, baseline))
    picked = np.random.default_rng(seed).integers(0, len(common), (draws, len(common)))
    ratios: NDArray[np.float64] = np.median(mine[picked], axis=1) / np.median(other[picked], axis=1)
    low, high = np.percentile(ratios, (2.5, 97.5))
    value = float(np.median(mine) / np.median(other))
    return value, min(float(low), value), max(float(high), value)


def half_width(medians: Sequence[float]) -> float:
    """Half of the median's interval as a share of the median; infinite as long as the turns are too few."""
    if len(medians) < MIN_TURNS:
        return math.inf
    low, high, _ = median_interval(medians)
    middle = float(np.median(medians))
    return (high - low) / 2 / middle if middle else 0.0
