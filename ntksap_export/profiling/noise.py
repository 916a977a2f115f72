"""What may be wrong with a timing, in facts and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SPREAD = 0.1  # IQR / median above this is noise
DRIFT = 0.05  # of the median, from the first turn to the last
CLOCK = 0.1  # of the highest clock
OTHERS = 0.05  # share of the CPU time of the measuring cores
_SURE = 2.0  # standard deviations of Kendall's count


def noise_facts(
    latency: Mapping[str, float],
    medians: Sequence[float],
    cpu: Mapping[str, float],
    events: Mapping[str, int | None],
    clock_mhz: Sequence[float] | None = None,
) -> dict[str, Any]:
    """The numbers that the verdict rests on; None where this machine does not tell.

    Args:
        latency: `p50` and `iqr`, in milliseconds.
        medians: of the turns, in their order.
        cpu: seconds on the cores of this cell during its turns: `total`, `own`, `busy`, `steal`; empty if not known.
        events: how often each kind of throttling happened meanwhile.
        clock_mhz: the lowest and the highest clock that was seen after a turn.
    """
    known = [count for count in events.values() if count is not None]
    total = cpu.get("total", 0.0)
    other = max(0.0, cpu["busy"] - cpu["own"]) / total if total else None
    return {
        "iqr_over_median": latency["iqr"] / latency["p50"] if latency["p50"] else 0.0,
        "drift": drift(medians),
        "throttled": sum(known) > 0 if known else None,
        "throttle_events": dict(events),
        "clock_mhz": None if clock_mhz is None else list(clock_mhz),
        "other_load": None if other is None else min(1.0, other),
        "steal": cpu["steal"] / total if total else None,
    }


def verdict(facts: Mapping[str, Any], runs: int, percentiles: Sequence[float] = (99.0,)) -> str:
    """`steady`, or `noisy: ...` with all that was wrong; a percentile that few runs carry is named."""
    spread, moved = facts["iqr_over_median"], facts.get("drift")
    problems = []
    if spread > SPREAD:
        problems.append(f"the middle half of the runs spreads over {spread:.0%} of the median")
    if moved is not None and abs(moved) > DRIFT:
        problems.append(f"the median drifted by {moved:+.0%} from the first turn to the last")
    if facts.get("throttled"):
        kinds = [name.replace("_", " ") for name, count in facts["throttle_events"].items() if count]
        problems.append(f"the CPU was throttled ({', '.join(kinds)})")
    if (clock := facts.get("clock_mhz")) and clock[0] < (1 - CLOCK) * clock[1]:
        problems.append(f"the clock was between {clock[0] / 1000:.1f} and {clock[1] / 1000:.1f} GHz")
    for name, words in (("other_load", "other processes"), ("steal", "other guests of the host")):
        if (facts.get(name) or 0) > OTHERS:
            problems.append(f"{words} took {facts[name]:.0%} of these cores")
    if facts.get("subnormals"):
        problems.append(f"{facts['subnormals']:,} subnormal numbers, which many CPUs handle many times slower")
    thin = [level for level in percentiles if level < 100 and runs * (100 - level) < 100 - 1e-6]
    few = [f"p{min(thin):g} rests on {runs} runs"] if thin else []
    if problems:
        return f"noisy: {'; '.join(problems + few)}"
    return f"steady, but {few[0]}" if few else "steady"


def drift(medians: Sequence[float]) -> float | None:
    """Change from the first turn to the last as a share of the median; 0 unless the order of the turns shows a trend.

    Theil's slope (the median of the slopes of all pairs), if Kendall's count of rising less falling pairs is two
    standard deviations from what independent turns have. None below six turns.
    """
    n = len(medians)
    if n < 6:
        return None
    values = np.asarray(medians, dtype=np.float64)
    first, second = np.triu_indices(n, 1)
    rises = values[second] - values[first]
    count = float(np.sign(rises).sum())
    if abs(count) < _SURE * math.sqrt(n * (n - 1) * (2 * n + 5) / 18):
        return 0.0
    return float(np.median(rises / (second - first))) * (n - 1) / float(np.median(values))
