"""What a measuring process does in a turn, with a session that only counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from ntksap_export.profiling import counters
from ntksap_export.profiling.bench import Bench
from ntksap_export.runtime.session import Images

SPEC = {"backend": "onnxruntime", "device": "cpu", "batch": 4, "streams": 1, "warmup_s": 0.001}
IMAGES = np.zeros((4, 3, 2, 2), np.float32)


class Counting:
    """Each bound call sleeps for `seconds` and notes its thread."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self.threads: list[int] = []
        self.bound = 0

    def bind(self, images: Images) -> Callable[[], None]:
        self.bound += 1

        def call() -> None:
            time.sleep(self._seconds)
            self.threads.append(threading.get_ident())

        return call


def _bench(session: Any, **changes: Any) -> Bench:
    return Bench({**SPEC, **changes}, session, IMAGES, [0])


@pytest.fixture
def joules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A counter that goes on by 2 J with each reading, and starts anew at 5 J."""
    readings = iter(range(10**6))
    monkeypatch.setattr(counters, "energy_uj", lambda: {"package": (next(readings) * 2_000_000 % 5_000_000, 5_000_000)})
    yield


def test_a_known_sleep_is_measured_right() -> None:
    turn = _bench(Counting(0.02)).turn(0.1, 2)

    assert min(turn["times_ms"]) >= 19.9  # a sleep is never shorter, and on a busy machine wakes late
    assert 2 <= len(turn["times_ms"]) <= 6
    assert turn["wall_s"] >= sum(turn["times_ms"]) / 1e3


def test_each_turn_begins_with_calls_that_are_not_timed() -> None:
    session = Counting()

    times = _bench(session).turn(1e-9, 7)["times_ms"]

    assert 7 == len(times)
    assert len(session.threads) > 7


def test_energy_is_that_of_all_turns_per_image(joules: None) -> None:
    bench = _bench(Counting())

    bench.turn(1e-9, 3)
    energy = bench.turn(1e-9, 5)["energy"]

    assert 2 * 2.0 / (8 * 4) == pytest.approx(energy["joules_per_image"])
    assert energy["watts"] > 0


def test_without_counters_energy_is_skipped_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "energy_uj", dict)

    assert "RAPL" in _bench(Counting()).turn(1e-9, 1)["energy"]["skipped"]


def test_each_stream_has_a_call_and_a_thread_of_its_own() -> None:
    session = Counting(0.001)

    turn = _bench(session, streams=3).turn(1e-9, 9)

    assert 3 == session.bound
    assert 9 == len(turn["times_ms"])
    assert len(set(session.threads)) >= 3


def test_a_server_gets_requests_of_one_batch_each() -> None:
    row = _bench(Counting()).serve(rate=4000.0, seconds=0.1, patience_s=60.0, seed=3)

    assert 60 <= row["requests"] <= 140  # 4000 images/s are 1000 requests/s
    assert (4000.0, 3, 0) == (row["rate"], row["seed"], row["unserved"])
    assert row["requests"] == len(row["times_ms"])


def test_warm_up_is_as_long_as_told() -> None:
    warmup = _bench(Counting(), warmup_s=0.01).warm_up()

    assert warmup.runs >= 4
    assert warmup.seconds >= 0.01


def test_the_first_call_is_timed_apart() -> None:
    slow = iter([0.05])
    session = Counting()
    bench = _bench(session, warmup_s=0.01)
    bench._calls = [lambda: time.sleep(next(slow, 0.0))]

    warmup = bench.warm_up()

    assert bench.first_run_ms >= 50.0
    assert warmup.runs >= 4
