"""Networks under load: several calls in flight, and calls that come at random times (Poisson)."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntksap_export.profiling.measure import Call, Clock, timed_runs

PRECISE = 1.05  # the rate that holds and the one that does not are so close in the end
_LEAST = 1 / 1024  # of the rate that is tried first: below it the search ends


@dataclass(frozen=True, slots=True)
class Served:
    """Requests at one rate.

    Attributes:
        latencies_ms: from the moment a request came to its answer; of one without answer, to when nobody waited more.
        unserved: requests without answer: the network was too slow for the rate.
        seconds: from the start to the last answer.
    """

    latencies_ms: tuple[float, ...]
    unserved: int
    seconds: float

    def to_json(self, rate: float, batch: int) -> dict[str, Any]:
        """The row of a rate (images/s); with requests unserved p50 and p99 are at least as large as said."""
        median, high = np.percentile(self.latencies_ms, (50, 99)) if self.latencies_ms else (0.0, 0.0)
        answered = len(self.latencies_ms) - self.unserved
        return {
            "rate": rate,
            "p50_ms": float(median),
            "p99_ms": float(high),
            "max_ms": max(self.latencies_ms, default=0.0),
            "served_per_s": answered * batch / self.seconds if self.seconds else 0.0,
            "requests": len(self.latencies_ms),
            "unserved": self.unserved,
            "seconds": self.seconds,
        }


def together(calls: Sequence[Call], seconds: float, at_least: int, clock: Clock) -> list[float]:
    """Milliseconds of each call with one thread per entry of `calls`, all busy for `seconds`; in order of the threads.

    Raises:
        Exception: what the first call that failed raised.
    """
    if len(calls) == 1:
        return timed_runs(calls[0], seconds, at_least=at_least, clock=clock)
    each = -(-at_least // len(calls))
    parts = in_threads([partial(timed_runs, call, seconds, at_least=each, clock=clock) for call in calls])
    return [value for part in parts for value in part]


def in_threads(works: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each work answers, each in a thread of its own; an exception of one is raised here."""
    answers: list[Any] = [None] * len(works)
    errors: list[Exception] = []
    gate = threading.Barrier(len(works))

    def run(place: int) -> None:
        gate.wait()
        try:
            answers[place] = works[place]()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return answers


def arrivals(rate: float, seconds: float, seed: int) -> NDArray[np.float64]:
    """When requests come, in seconds from the start: a Poisson process of `rate` per second; one at least."""
    draw, last = np.random.default_rng(seed), 0.0
    times: list[float] = []
    while last < seconds or not times:
        last += float(draw.exponential(1 / rate))
        if last < seconds or not times:
            times.append(last)
    return np.asarray(times)


def serve(
    calls: Sequence[Call],
    times_s: Sequence[float] | NDArray[np.float64],
    patience_s: float,
    clock: Clock = time.perf_counter_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> Served:
    """Answer requests that come at `times_s` from one queue, with one thread per entry of `calls`.

    A latency counts from the moment a request came, whether or not somebody was free to see it: were it counted from
    the start of the call, a slow call would hide the wait of all that came meanwhile (coordinated omission). A thread
    sleeps until the next request comes and wakes some 0.1 ms late, which is counted, as it would be in a server.

    Args:
        calls: one per server; they run at once.
        times_s: from the start, ascending.
        patience_s: requests that nobody took up by then are unserved.
        clock: nanoseconds; replaced in tests.
        sleep: replaced in tests.
    """
    latencies = [0.0] * len(times_s)
    queue, lock = iter(range(len(times_s))), threading.Lock()
    ends, unserved = [0.0], itertools.count()
    start = clock()

    def now() -> float:
        return (clock() - start) / 1e9

    def work(call: Call) -> None:
        for place in _taken(queue, lock):
            came = float(times_s[place])
            if (wait := came - now()) > 0:
                sleep(wait)
            if now() > patience_s:
                next(unserved)
            else:
                call()
                ends.append(now())
            latencies[place] = 1e3 * (now() - came)

    if len(calls) == 1:
        work(calls[0])
    else:
        in_threads([partial(work, call) for call in calls])
    return Served(tuple(latencies), next(unserved), max(ends))


def highest_rate(holds: Callable[[float], bool], start: float, goes_on: Callable[[], bool]) -> tuple[float | None, str]:
    """The highest rate that holds, and why the search ended: doubling or halving from `start`, then bisection.

    Args:
        holds: measures a rate (images/s) and tells whether its p99 stays under the limit.
        start: the rate that is tried first.
        goes_on: whether there is time for another one.
    """
    low: float | None = None
    high: float | None = None
    rate = start
    while goes_on():
        if holds(rate):
            low = rate
        else:
            high = rate
        if low is not None and high is not None:
            if high <= low * PRECISE:
                return low, "found to 5 %"
            rate = (low + high) / 2
        elif low is not None:
            rate = low * 2
        else:
            rate /= 2
            if rate < start * _LEAST:
                return None, "no rate holds"
    return low, "time is up"


def _taken(queue: Iterator[int], lock: threading.Lock) -> Iterator[int]:
    """The next of the queue for this thread, until it is empty."""
    while True:
        with lock:
            place = next(queue, None)
        if place is None:
            return
        yield place
