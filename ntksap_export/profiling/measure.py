"""Timing calls: warm-up until they are stable, enough runs, every raw time kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from ntksap_export.profiling.noise import noise_facts, verdict
from ntksap_export.profiling.statistics import summarize
from ntksap_export.runtime.session import Images, Session

Call = Callable[[], None]
Clock = Callable[[], int]
MIN_RUNS = 10
MAX_RUNS = 5000  # of one turn
WARMUP_S = 0.3
LONGEST_WARMUP_S = 3.0
_ENDLESS = 10 * MAX_RUNS
STABLE = 0.05  # medians of the last three parts of a warm-up lie so close together


@dataclass(frozen=True, slots=True)
class Warmup:
    """Untimed calls before the first timed one, and whether they had stopped getting faster."""

    runs: int
    seconds: float
    stable: bool


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
        """Percentiles, throughput (see `statistics.summarize`) and a verdict on noise."""
        found = summarize(self.times_ms, self.batch)
        return {**found, "noise": verdict(noise_facts(found["latency_ms"], (), {}, {}), found["runs"])}


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
    return Measurement(tuple(times), warmup.runs, len(images), dict(session.options))


def warm_up(
    call: Call,
    seconds: float = WARMUP_S,
    longest: float = LONGEST_WARMUP_S,
    clock: Clock = time.perf_counter_ns,
) -> Warmup:
    """Call untimed for at least four runs and `seconds`, and on until stable or `longest` seconds have passed.

    The first call counts for nothing: it may compile for minutes.
    Stable: of the calls of the last `seconds`, cut in three, the medians lie within 5 % of each other.
    """
    call()
    times: list[int] = []
    start, look_at = clock(), seconds
    while True:
        before = clock()
        call()
        now = clock()
        times.append(now - before)
        passed = (now - start) / 1e9
        if len(times) >= _ENDLESS or (len(times) >= 3 and passed >= look_at):
            stable = is_stable(_latest(times, seconds * 1e9))
            if stable or passed >= longest or len(times) >= _ENDLESS:
                return Warmup(1 + len(times), passed, stable)
            look_at = passed + seconds / 3


def is_stable(times: Sequence[float]) -> bool:
    """Whether the medians of the three thirds of `times` lie within 5 % of each other; False of fewer than three."""
    third = len(times) // 3
    if not third:
        return False
    middles = [median(times[:third]), median(times[third:-third]), median(times[-third:])]
    return max(middles) - min(middles) <= STABLE * min(middles)


def timed_runs(
    call: Call,
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


def _latest(times: Sequence[int], span_ns: float) -> Sequence[int]:
    """The last calls, for as long as they took `span_ns` together; three at least."""
    taken = count = 0
    for value in reversed(times):
        if count >= 3 and taken >= span_ns:
            break
        taken += value
        count += 1
    return times[-count:]
