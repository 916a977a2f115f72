"""Node times in onnxruntime, from its own profile. Imports no torch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final

from ntksap_export.runtime.ort import OrtSession
from ntksap_export.runtime.session import Images
from ntksap_export.runtime.tracing import events
from ntksap_export.runtime.tracing.traced import NodeTime, Trace, take_turns

METHOD: Final = "onnxruntime's profile, medians over the calls; its clock counts whole microseconds"


def trace(graph: Path, images: Images, threads: int, seconds: float) -> Trace:
    """Time the nodes of a graph on the CPU.

    Args:
        graph: a path.
        images: as the graph takes them.
        threads: of one operator.
        seconds: about how long.

    Raises:
        ExportError, UnavailableError: as `OrtSession`.
    """
    with OrtSession(graph, "cpu", threads) as plain, tempfile.TemporaryDirectory(prefix="trace.") as folder:
        call = plain.bind(images)
        return take_turns(call, _Profiled(graph, images, threads, Path(folder)), seconds, METHOD)


def activation_bytes(graph: Path, images: Images, threads: int) -> dict[str, int]:
    """Bytes of values between nodes at each node, each freed when its last reader is done; empty: not told.

    Memory patterns are off: with them onnxruntime takes all values of a call as one block, however few live at once.
    """
    with tempfile.TemporaryDirectory(prefix="trace.") as folder:
        with OrtSession(graph, "cpu", threads, trace=Path(folder), memory_pattern=False) as session:
            call = session.bind(images)
            call()
            call()
            found = events.runs(session.end_trace())
        return events.requested_bytes(found[-1])


class _Profiled:
    """A session that writes its profile into a folder."""

    def __init__(self, graph: Path, images: Images, threads: int, folder: Path) -> None:
        self._session = OrtSession(graph, "cpu", threads, trace=folder)
        self._call: Callable[[], None] = self._session.bind(images)
        self._warm = 5
        self.turn(self._warm)

    def turn(self, runs: int) -> None:
        for _ in range(runs):
            self._call()

    def result(self) -> tuple[tuple[NodeTime, ...], float, int]:
        found = events.runs(self._session.end_trace())[self._warm :]
        self._session.close()
        return events.node_times(found), median(run.ms for run in found), len(found)
