"""Timing calls: warm-up, enough runs, every raw time kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ntksap_export.profiling.statistics import summarize
from ntksap_export.runtime.session import Images, Session

Clock = Callable[[], int]
MIN_RUNS = 10
MAX_RUNS = 5000


@dataclass(frozen=True, slots=True)
class Measurement:
    """Raw times of one session on one batch.

    Attributes:
        times_ms: one per run.
        warmup_runs: untimed calls before.
        batch: images per run.
        options: of the session.
    """

    times_ms: tuple[float, ...]
    warmup_runs: int
    batch: int
    options: dict[str, Any]

    def summary(self) -> dict[str, Any]:
        """Percentiles, throughput, noise; see `statistics.summarize`."""
        return summarize(self.times_ms, self.batch)


def measure_latency(
    session: Session, images: Images, *, seconds: float = 1.0, clock: Clock = time.perf_counter_ns
) -> Measurement:
    """Time `session` on `images` in this process.

    Args:
        session: what runs.
        images: (N, C, H, W).
        seconds: how long to measure, above 0; at least `MIN_RUNS` runs are made.
        clock: nanoseconds; replaced in tests.
    """
    call = session.bind(images)
    warmup = warm_up(call, clock=clock)
    times = timed_runs(call, seconds, clock=clock)
    return Measurement(tuple(times), warmup, len(images), dict(session.options))


def warm_up(call: Callable[[], None], seconds: float = 0.3, clock: Clock = time.perf_counter_ns) -> int:
    """Call untimed for at least three runs and `seconds`; how often it was called."""
    start, runs = clock(), 0
    while runs < 3 or (clock() - start < seconds * 1e9 and runs < MAX_RUNS):
        call()
        runs += 1
    return runs


def timed_runs(
    call: Callable[[], None],
    seconds: float,
    *,
    at_least: int = MIN_RUNS,
    clock: Clock = time.perf_counter_ns,
) -> list[float]:
    """Milliseconds of each call, until `seconds` have passed and `at_least` runs were made."""
    times: list[float] = []
    start = clock()
    while len(times) < at_least or (clock() - start < seconds * 1e9 and len(times) < MAX_RUNS):
        before = clock()
        call()
        times.append((clock() - before) / 1e6)
    return times
