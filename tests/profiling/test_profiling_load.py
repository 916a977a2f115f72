"""Load with a clock that only calls and sleeps move."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ntksap_export.profiling.load import Served, arrivals, highest_rate, in_threads, serve, together
from ntksap_export.profiling.server import search_rate, under_load
from ntksap_export.profiling.settings import Settings
from ntksap_export.profiling.turns import Turns


class FakeServer:
    """Calls last as given, in seconds; sleeping costs nothing but its time."""

    def __init__(self, *durations: float) -> None:
        self._durations, self.calls, self.now = durations, 0, 50.0

    def clock(self) -> int:
        return round(self.now * 1e9)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def call(self) -> None:
        self.now += self._durations[min(self.calls, len(self._durations) - 1)]
        self.calls += 1

    def serve(self, times_s: list[float], patience_s: float = 1e9) -> Served:
        return serve([self.call], times_s, patience_s, self.clock, self.sleep)


def test_a_latency_counts_from_the_moment_a_request_came() -> None:
    # The first call takes 1 s; what comes meanwhile waits, although each of them is served in 0.1 s.
    served = FakeServer(1.0, 0.1).serve([0.0, 0.5, 0.6, 3.0])

    assert pytest.approx([1000, 600, 600, 100]) == served.latencies_ms
    assert 0 == served.unserved
    assert 3.1 == pytest.approx(served.seconds)


def test_waiting_times_are_those_of_a_queue() -> None:
    times = arrivals(80.0, 50.0, seed=4)
    served = FakeServer(0.01).serve(list(times))

    free, expected = 0.0, []
    for came in times:  # Lindley: each starts when it came or when the one before is done
        free = max(free, came) + 0.01
        expected.append(1e3 * (free - came))
    assert expected == pytest.approx(served.latencies_ms, abs=1e-3)
    # Pollaczek-Khinchine, utilization 0.8: the mean wait is 0.8 / (2 * 0.2) of a service
    assert 20 == pytest.approx(np.mean(served.latencies_ms) - 10, rel=0.25)


def test_requests_that_nobody_took_up_in_time_are_unserved() -> None:
    served = FakeServer(1.0).serve([0.0, 0.1, 0.2, 0.3], patience_s=1.5)
    row = served.to_json(rate=40.0, batch=4)

    assert 2 == served.unserved
    assert pytest.approx([1000, 1900, 1800, 1700]) == served.latencies_ms
    assert {"rate": 40.0, "requests": 4, "unserved": 2} == {key: row[key] for key in ("rate", "requests", "unserved")}
    assert 2 * 4 / 2.0 == pytest.approx(row["served_per_s"])
    assert 1750 == pytest.approx(row["p50_ms"])


def test_several_servers_share_one_queue() -> None:
    gate = threading.Barrier(2, timeout=30)  # passed only by two calls at once

    served = serve([gate.wait, gate.wait], [0.0, 0.0, 0.0, 0.0], 60.0)  # type: ignore[list-item]

    assert 4 == len(served.latencies_ms)
    assert 0 == served.unserved


def test_requests_come_at_random_at_their_rate_and_are_repeatable() -> None:
    times = arrivals(100.0, 200.0, seed=7)
    gaps = np.diff(times)

    assert list(times) == list(arrivals(100.0, 200.0, seed=7))
    assert list(times) != list(arrivals(100.0, 200.0, seed=8))
    assert 20_000 == pytest.approx(len(times), rel=0.03)
    assert 1.0 == pytest.approx(gaps.std() / gaps.mean(), rel=0.05)  # of an exponential
    assert 0 < times[0]
    assert times[-1] < 200
    assert 1 == len(arrivals(1e-9, 1.0, seed=0))


@pytest.mark.parametrize(("capacity", "start"), [(1000.0, 10.0), (1000.0, 1e5), (1000.0, 1000.0), (3.0, 1.0)])
def test_the_highest_rate_is_found_to_five_percent(capacity: float, start: float) -> None:
    tried: list[float] = []

    def holds(rate: float) -> bool:
        tried.append(rate)
        return rate <= capacity

    rate, ended = highest_rate(holds, start, lambda: True)

    assert rate is not None
    assert capacity / 1.05 <= rate <= capacity
    assert "found to 5 %" == ended
    assert len(tried) <= 20


def test_the_search_ends_with_its_time_or_without_any_rate() -> None:
    left = iter([True, True, True, False])

    assert (40.0, "time is up") == highest_rate(lambda rate: True, 10.0, lambda: next(left))
    assert (None, "no rate holds") == highest_rate(lambda rate: False, 10.0, lambda: True)


class Queue:
    """A server whose p99 doubles with every 100 images/s."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, float, float, int]] = []

    def run(self, seconds: float, at_least: int) -> dict[str, Any]:
        raise NotImplementedError

    def serve(self, rate: float, seconds: float, patience_s: float, seed: int) -> dict[str, Any]:
        self.asked.append((rate, seconds, patience_s, seed))
        return {"rate": rate, "p50_ms": 1.0, "p99_ms": 2 ** (rate / 100), "requests": 200, "unserved": 0}


def _settings(**changes: Any) -> Settings:
    return Settings((), (), (), (), mode="server", min_time_s=1.0, max_time_s=10.0, **changes)


def test_each_rate_is_offered_long_enough_for_a_p99() -> None:
    queue = Queue()

    found = under_load(queue, Turns(queue, times_ms=[2.0]), {"batch": 2, "streams": 1}, _settings(rates=(100, 1e4, 1)))

    assert [100, 1e4, 1] == [row["rate"] for row in found["server"]]
    assert [(100, 4.0, 8.0, 0), (1e4, 1.0, 2.0, 1), (1, 10.0, 20.0, 2)] == queue.asked
    assert {"server"} == set(found)


def test_the_highest_rate_under_the_limit_is_that_of_the_tail() -> None:
    queue = Queue()

    found = under_load(queue, Turns(queue, times_ms=[2.0]), {"batch": 1, "streams": 1}, _settings(limit_ms=8.0))

    assert 300 / 1.05 <= found["max_rate"] <= 300
    assert 250.0 == found["max_rate_search"]["trials"][0]["rate"]  # half of 1 / 2 ms
    assert 8.0 == found["max_rate_search"]["limit_ms"]


def test_a_limit_below_a_lone_call_needs_no_search() -> None:
    queue = Queue()

    found = under_load(queue, Turns(queue, times_ms=[9.0]), {"batch": 1, "streams": 1}, _settings(limit_ms=8.0))

    assert found["max_rate"] is None
    assert "one call alone takes 9 ms" == found["max_rate_search"]["ended"]
    assert [] == queue.asked


def test_the_search_keeps_its_time() -> None:
    queue, ticks = Queue(), iter(range(0, 1000, 4))

    found = search_rate(queue, 1, 1.0, _settings(limit_ms=8.0), clock=lambda: float(next(ticks)))

    assert 2 == len(found["max_rate_search"]["trials"])
    assert "time is up" == found["max_rate_search"]["ended"]
    assert 2.0 == found["max_rate"]


def test_other_modes_offer_nothing() -> None:
    queue = Queue()

    assert {} == under_load(queue, Turns(queue), {"batch": 1, "streams": 1}, Settings((), (), (), ()))


def test_streams_run_at_once_and_all_times_are_there() -> None:
    gate = threading.Barrier(3, timeout=30)

    def call() -> None:
        gate.wait()

    times = together([call] * 3, 1e-9, 6, time.perf_counter_ns)

    assert 6 == len(times)


def test_an_error_of_a_thread_is_raised() -> None:
    def fails() -> None:
        raise ValueError("boom")

    works: list[Callable[[], Any]] = [lambda: 1, fails]

    assert [1, 2] == in_threads([lambda: 1, lambda: 2])
    with pytest.raises(ValueError, match="boom"):
        in_threads(works)
