from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from ntksap_export.profiling.measure import (
    MAX_RUNS,
    MIN_RUNS,
    Warmup,
    is_stable,
    measure_latency,
    timed_runs,
    warm_up,
)
from ntksap_export.runtime.session import Images, Logits

IMAGES = np.zeros((4, 3, 2, 2), np.float32)


class FakeTime:
    """A clock that only calls move: the n-th takes `durations_ms[n]`, and the last duration goes on forever."""

    def __init__(self, *durations_ms: float) -> None:
        self._durations_ms: Sequence[float] = durations_ms
        self.now_ns = 10**15
        self.calls = 0

    def clock(self) -> int:
        return self.now_ns

    def call(self) -> None:
        self.now_ns += round(self._durations_ms[min(self.calls, len(self._durations_ms) - 1)] * 1e6)
        self.calls += 1


class FakeSession:
    """A session whose bound call is given."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self.bound: list[Images] = []
        self.options: dict[str, Any] = {"backend": "fake", "threads": 3}

    def run(self, images: Images) -> Logits:
        raise NotImplementedError

    def bind(self, images: Images) -> Callable[[], None]:
        self.bound.append(images)
        return self._call

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("call_ms", "seconds", "runs"), [(10, 0.5, 50), (10, 0.495, 50), (200, 0.3, 3), (0, 1, 10 * MAX_RUNS)]
)
def test_warm_up_runs_for_its_time_and_at_least_three_times_after_the_first(
    call_ms: float, seconds: float, runs: int
) -> None:
    fake = FakeTime(60_000, call_ms)  # the first call compiles for a minute

    warmup = warm_up(fake.call, seconds, clock=fake.clock)

    assert Warmup(1 + runs, runs * call_ms / 1e3, True) == warmup
    assert 1 + runs == fake.calls


def test_warm_up_goes_on_until_the_calls_are_stable() -> None:
    fake = FakeTime(*[50 - 4 * run for run in range(10)], 10)  # ever faster, then 10 ms for ever

    warmup = warm_up(fake.call, 0.3, clock=fake.clock)

    assert warmup.stable
    assert 0.3 < warmup.seconds < 3.0
    assert warmup.runs >= 10 + 3


def test_warm_up_ends_with_calls_that_never_become_stable() -> None:
    fake = FakeTime(*[10 * 1.1**run for run in range(60)])

    warmup = warm_up(fake.call, 0.3, longest=2.0, clock=fake.clock)

    assert not warmup.stable
    assert 2.0 <= warmup.seconds <= 2.5


@pytest.mark.parametrize(
    ("times", "stable"),
    [
        ([1.0, 1.0, 1.04], True),
        ([1.0, 1.0, 1.06], False),
        ([2.0] * 3 + [1.0] * 6, False),
        ([1.0, 9.0, 1.0] * 3, True),
        ([1.0, 1.0], False),
    ],
)
def test_stable_means_that_the_thirds_agree(times: list[float], stable: bool) -> None:
    assert stable == is_stable(times)


@pytest.mark.parametrize(
    ("call_ms", "seconds", "at_least", "runs"),
    [
        (10, 0.5, 2, 50),
        (10, 0.495, 2, 50),
        (10, 0.01, 7, 7),
        (1000, 0.01, MIN_RUNS, MIN_RUNS),
        (1000, 1e-9, 0, 1),
        (0, 1, 2, MAX_RUNS),
    ],
)
def test_timed_runs_stop_at_the_time_limit_but_not_before_the_minimum(
    call_ms: float, seconds: float, at_least: int, runs: int
) -> None:
    fake = FakeTime(call_ms)

    times = timed_runs(fake.call, seconds, at_least=at_least, clock=fake.clock)

    assert [call_ms] * runs == times
    assert runs == fake.calls


def test_timed_runs_make_ten_runs_by_default() -> None:
    fake = FakeTime(1000)

    assert 10 == MIN_RUNS == len(timed_runs(fake.call, 0.001, clock=fake.clock))


def test_timed_runs_keep_each_raw_time_in_order() -> None:
    fake = FakeTime(3, 1, 250.5, 0.000001, 2, 5)

    times = timed_runs(fake.call, 0.001, at_least=6, clock=fake.clock)

    assert [3, 1, 250.5, 0.000001, 2, 5] == times


def test_latency_counts_no_warm_up() -> None:
    fake = FakeTime(100, 80, 130, 1)  # after three slow calls 1 ms each, for ever
    session = FakeSession(fake.call)

    measurement = measure_latency(session, IMAGES, seconds=0.02, clock=fake.clock)

    assert (1.0,) * 20 == measurement.times_ms
    assert 20 + measurement.warmup_runs == fake.calls
    assert 4 == measurement.batch
    assert session.options == measurement.options
    assert [id(IMAGES)] == [id(images) for images in session.bound]


def test_summary_is_of_the_raw_times() -> None:
    fake = FakeTime(*[100] * 4, *[2] * 9, 20)
    measurement = measure_latency(FakeSession(fake.call), IMAGES, seconds=0.001, clock=fake.clock)

    summary = measurement.summary()

    assert (2.0,) * 9 + (20.0,) == measurement.times_ms
    assert (2.0, 20.0, 3.8) == tuple(summary["latency_ms"][key] for key in ("p50", "max", "mean"))
    assert (2000.0, 10) == (summary["throughput_images_per_s"], summary["runs"])


def test_a_sleep_of_5_ms_is_measured_as_5_to_10_ms() -> None:
    # A sleep is never shorter; on a busy machine it wakes late, so the margin above is wide.
    measurement = measure_latency(FakeSession(lambda: time.sleep(0.005)), IMAGES, seconds=0.2)

    latency = measurement.summary()["latency_ms"]
    assert latency["min"] >= 4.9
    assert 4.9 <= latency["p50"] <= 10
    assert 10 <= len(measurement.times_ms) <= 41
    assert measurement.warmup_runs <= 601
