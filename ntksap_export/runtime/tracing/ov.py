"""Node times in OpenVINO, from its performance counters. Imports no torch.

A counter is the mean over all calls since the network was compiled, in whole microseconds. So the network is compiled
anew for each turn, its counters are read after the warm-up and at the end, and what lies between them is

    (mean_end * calls_end - mean_warm * calls_warm) / (calls_end - calls_warm)

The median over the turns is what is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any, Final

from ntksap_export.runtime.ov import OpenVinoSession
from ntksap_export.runtime.session import Images
from ntksap_export.runtime.tracing.traced import NodeTime, Trace, between, medians, take_turns, timed

METHOD: Final = (
    "OpenVINO's performance counters: means over the calls of a turn, medians over the turns, each compiled anew; "
    "its clock counts whole microseconds"
)
_TURNS: Final = 7
_MOST: Final = 20  # calls in a turn: a mean over few is seldom hit by what else the machine does
_WARM: Final = 3


def trace(graph: Path, images: Images, threads: int, seconds: float, precision: str = "fp32") -> Trace:
    """Time the nodes of a graph; arguments and errors as `tracing.ort.trace`, `precision` as of `OpenVinoSession`."""
    with OpenVinoSession(graph, threads, precision) as plain:
        call = plain.bind(images)
        return take_turns(call, _Counted(graph, images, threads, precision), seconds, METHOD, turns=_TURNS, most=_MOST)


class _Counted:
    """Sessions with counters, one for each turn."""

    def __init__(self, graph: Path, images: Images, threads: int, precision: str) -> None:
        self._open: Callable[[], OpenVinoSession] = lambda: OpenVinoSession(graph, threads, precision, counters=True)
        self._images = images
        self._totals: list[float] = []
        self._means: list[dict[str, float]] = []
        self._about: dict[str, NodeTime] = {}
        self._runs = 0

    def turn(self, runs: int) -> None:
        with self._open() as session:
            call = session.bind(self._images)
            timed(call, _WARM)
            warm = _by_name(session.counters())
            self._totals.append(mean(timed(call, runs)))
            counters = session.counters()
        end = _by_name(counters)
        self._about = self._about or {node.get_friendly_name(): _about(node) for node, _ in counters}
        self._means.append(between(warm, end, _WARM, runs))
        self._runs += runs

    def result(self) -> tuple[tuple[NodeTime, ...], float, int]:
        names = list(self._about)
        times = medians([[row.get(name, 0.0) for name in names] for row in self._means])
        nodes = (replace(self._about[name], ms=ms) for name, ms in zip(names, times, strict=True))
        return tuple(nodes), median(self._totals), self._runs


def _by_name(counters: Iterable[tuple[Any, float]]) -> dict[str, float]:
    return {node.get_friendly_name(): taken for node, taken in counters}


def _about(node: Any) -> NodeTime:
    """A node of OpenVINO's, with no time yet; what it made itself has no name of the graph's nodes."""
    sources = [port.get_source_output() for port in node.inputs()]
    sizes = [_bytes(port) for port in (*sources, *node.outputs())]
    constants = [_bytes(port) or 0 for port in sources if _note(port.get_node(), "layerType") == "Const"]
    op = _note(node, "layerType")
    moved = None if None in sizes else sum(size or 0 for size in sizes)
    return NodeTime(_note(node, "originalLayersNames") or op, op, 0.0, moved, sum(constants))


def _note(node: Any, key: str) -> str:
    notes = node.get_rt_info()
    return str(notes[key].value) if key in notes else ""


def _bytes(port: Any) -> int | None:
    """None where a side is open."""
    shape = port.get_partial_shape()
    return math.prod(shape.to_shape()) * port.get_element_type().size if shape.is_static else None
