"""From raw times to numbers with their doubts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

PERCENTILES = (50, 90, 99)
NOISY = 0.1  # IQR / median above this is called noisy


def summarize(times_ms: Sequence[float], batch: int) -> dict[str, Any]:
    """Percentiles (linear interpolation), mean, spread, throughput at the median, and a verdict on noise.

    Args:
        times_ms: one duration per run, in milliseconds; at least one.
        batch: images per run.
    """
    values = np.asarray(times_ms, dtype=np.float64)
    quarter, three_quarters = np.percentile(values, (25, 75))
    latency = {f"p{level}": float(np.percentile(values, level)) for level in PERCENTILES}
    spread = float(three_quarters - quarter)
    return {
        "latency_ms": {
            **latency,
            "mean": float(values.mean()),
            "min": float(values.min()),
            "max": float(values.max()),
            "iqr": spread,
        },
        "throughput_images_per_s": batch * 1000.0 / latency["p50"],
        "runs": len(values),
        "noise": noise_verdict(spread, latency["p50"], len(values)),
    }


def noise_verdict(iqr: float, median: float, runs: int) -> str:
    """`steady`, or `noisy: ...` with the reason; few runs are said to be few."""
    if iqr > NOISY * median:
        return f"noisy: the middle half of the runs spreads over {iqr / median:.0%} of the median"
    if runs < 100:
        return f"steady, but p99 rests on {runs} runs"
    return "steady"
