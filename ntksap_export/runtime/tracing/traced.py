"""The contract of a network whose nodes can be timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, Protocol

Clock = Callable[[], int]
_WARM_UP: Final = 5
_WARM_UP_MS: Final = 200.0
_WARM_UP_MOST: Final = 200
_LEAST: Final = 3


@dataclass(frozen=True, slots=True)
class Work:
    """What a module has to do in one call, where the runtime runs modules and not the nodes of a graph.

    Attributes:
        module: its dotted name.
        macs: dense multiply-accumulates of the whole batch; None where they are not counted.
        nonzero_macs: those whose weight is not zero.
    """

    module: str
    macs: int | None
    nonzero_macs: int | None


@dataclass(frozen=True, slots=True)
class NodeTime:
    """One node as the runtime ran it.

    Attributes:
        name: the runtime's own; it may speak of several nodes of the graph (`graph.marks`).
        op: the runtime's word for it.
        ms: per call.
        moved_bytes: inputs and outputs, with the constants that the runtime still reads as such; None: unknown.
        constant_bytes: of these, the constants.
        work: where the runtime ran a module.
    """

    name: str
    op: str
    ms: float
    moved_bytes: int | None = None
    constant_bytes: int = 0
    work: Work | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """Some calls, watched and not watched in turn.

    Attributes:
        nodes: in the order in which they ran.
        total_ms: of a whole call while it was watched.
        plain_ms: of a whole call of the same network that was not.
        runs: watched calls.
        method: in words.
    """

    nodes: tuple[NodeTime, ...]
    total_ms: float
    plain_ms: float
    runs: int
    method: str


class Watched(Protocol):
    """A network under the runtime's counters."""

    def turn(self, runs: int) -> None:
        """Call it `runs` times."""

    def result(self) -> tuple[tuple[NodeTime, ...], float, int]:
        """The nodes, milliseconds of a whole call, and how many calls they rest on."""


def timed(call: Callable[[], None], runs: int, clock: Clock = time.perf_counter_ns) -> list[float]:
    """Milliseconds of each of some calls."""
    times = []
    for _ in range(runs):
        before = clock()
        call()
        times.append((clock() - before) / 1e6)
    return times


def take_turns(
    plain: Callable[[], None],
    watched: Watched,
    seconds: float,
    method: str,
    *,
    turns: int = 5,
    most: int = 200,
    clock: Clock = time.perf_counter_ns,
) -> Trace:
    """Watch a network in turns with its unwatched twin, so that drift of the machine hits both alike.

    Args:
        plain: a call of the twin; warmed up here.
        watched: warms itself up.
        seconds: about how long, both together; each turn has at least three calls.
        method: what the numbers are, in words.
        turns: of each.
        most: calls in a turn.
        clock: nanoseconds; replaced in tests.
    """
    typical_s = median(_warm(plain, clock)[-_WARM_UP:]) / 1e3
    runs = max(_LEAST, min(most, int(seconds / (2 * turns * max(typical_s, 1e-6)))))
    unwatched: list[float] = []
    for _ in range(turns):
        unwatched += timed(plain, runs, clock)
        watched.turn(runs)
    nodes, total_ms, count = watched.result()
    return Trace(nodes, total_ms, median(unwatched), count, method)


def _warm(call: Callable[[], None], clock: Clock) -> list[float]:
    times: list[float] = []
    while len(times) < _WARM_UP or (sum(times) < _WARM_UP_MS and len(times) < _WARM_UP_MOST):
        times += timed(call, 1, clock)
    return times


def medians(rows: Sequence[Sequence[float]]) -> list[float]:
    """The median of each column."""
    return [median(column) for column in zip(*rows, strict=True)]


def between(warm: Mapping[str, float], end: Mapping[str, float], before: int, runs: int) -> dict[str, float]:
    """Milliseconds per call of the last `runs` calls, of counters in microseconds that also hold `before` calls."""
    return {
        name: max(0.0, value * (before + runs) - warm.get(name, 0.0) * before) / runs / 1e3
        for name, value in end.items()
    }
