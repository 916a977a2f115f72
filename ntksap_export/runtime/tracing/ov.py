"""Node times in OpenVINO, from its performance counters. Imports no torch.

A counter is the mean over all calls since the network was compiled, in whole microseconds. So the network is compiled
anew for each turn, its counters are read after the warm-up and at the end, and what lies between them is

    (mean_end * calls_end - mean_warm * calls_warm) / (calls_end - calls_warm)

The median over the turns is what is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import mean, median
from typing import Final

from ntksap_export.runtime.ov import Counter, OpenVinoSession
from ntksap_export.runtime.session import Images
from ntksap_export.runtime.tracing.traced import NodeTime, Trace, medians, take_turns, timed

METHOD: Final = (
    "OpenVINO's performance counters: means over the calls of a turn, medians over the turns, each compiled anew; "
    "its clock counts whole microseconds"
)
_TURNS: Final = 7
_MOST: Final = 20  # calls in a turn: a mean over few is seldom hit by what else the machine does
_WARM: Final = 3


def trace(graph: Path, images: Images, threads: int, seconds: float) -> Trace:
    """Time the nodes of a graph; arguments and errors as `tracing.ort.trace`."""
    with OpenVinoSession(graph, threads) as plain:
        call = plain.bind(images)
        return take_turns(call, _Counted(graph, images, threads), seconds, METHOD, turns=_TURNS, most=_MOST)


class _Counted:
    """Sessions with counters, one for each turn."""

    def __init__(self, graph: Path, images: Images, threads: int) -> None:
        self._open: Callable[[], OpenVinoSession] = lambda: OpenVinoSession(graph, threads, counters=True)
        self._images = images
        self._totals: list[float] = []
        self._means: list[dict[str, float]] = []
        self._about: dict[str, Counter] = {}
        self._runs = 0

    def turn(self, runs: int) -> None:
        with self._open() as session:
            call = session.bind(self._images)
            timed(call, _WARM)
            warm = {counter.name: counter.mean_us for counter in session.counters()}
            self._totals.append(mean(timed(call, runs)))
            found = {counter.name: counter for counter in session.counters()}
        self._about = self._about or found
        self._means.append(between(warm, {name: each.mean_us for name, each in found.items()}, _WARM, runs))
        self._runs += runs

    def result(self) -> tuple[tuple[NodeTime, ...], float, int]:
        names = list(self._about)
        times = medians([[row.get(name, 0.0) for name in names] for row in self._means])
        nodes = (_node(self._about[name], ms) for name, ms in zip(names, times, strict=True))
        return tuple(nodes), median(self._totals), self._runs


def between(warm: Mapping[str, float], end: Mapping[str, float], before: int, runs: int) -> dict[str, float]:
    """Milliseconds per call of the last `runs` calls, of counters in microseconds that also hold `before` calls."""
    return {
        name: max(0.0, value * (before + runs) - warm.get(name, 0.0) * before) / runs / 1e3
        for name, value in end.items()
    }


def _node(counter: Counter, ms: float) -> NodeTime:
    return NodeTime(counter.origin or counter.op, counter.op, ms, counter.moved_bytes, counter.constant_bytes)
