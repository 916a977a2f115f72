"""Many small graphs timed in one fresh process, seen from the parent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ntksap_export.errors import UnavailableError
from ntksap_export.graph import Graph
from ntksap_export.timing import Timing


@dataclass(frozen=True, slots=True)
class Effort:
    """How long graphs are timed.

    Attributes:
        slices: least and most turns that each graph gets.
        slice_s: seconds of a turn.
        at_least: calls of a turn, however long they take.
        warmup_s: seconds of calls before, at least three.
        target_ci: half of the 95 % interval, as a share of the median, at which turns may end.
    """

    slices: tuple[int, int]
    slice_s: float
    at_least: int
    warmup_s: float
    target_ci: float


LAYERS: Final = Effort((5, 8), 0.01, 2, 0.02, 0.03)
WHOLE: Final = Effort((4, 24), 0.25, 5, 0.3, 0.01)


def time_graphs(graphs: Sequence[Graph], settings: Mapping[str, Any], effort: Effort) -> list[Timing]:
    """Time graphs by turns in a fresh process, which is pinned to as many CPUs as it has threads.

    Args:
        graphs: each with one float32 input of fixed sides, the batch may be open.
        settings: backend, device, batch and threads.
        effort: how long.

    Raises:
        UnavailableError: the process could not load or run one.
    """
    with tempfile.TemporaryDirectory(prefix="ntksap-") as scratch:
        paths = [Path(scratch) / f"{index}.onnx" for index in range(len(graphs))]
        for graph, path in zip(graphs, paths, strict=True):
            graph.save(path)
        order = {
            **settings,
            "graphs": [str(path) for path in paths],
            "slices": effort.slices,
            "slice_s": effort.slice_s,
            "at_least": effort.at_least,
            "warmup_s": effort.warmup_s,
            "target_ci": effort.target_ci,
        }
        return [Timing.of(times) for times in _answer(order)["times_ms"]]


def _answer(order: Mapping[str, Any]) -> dict[str, Any]:
    threads = str(order["threads"])
    process = subprocess.run(
        [sys.executable, "-m", "ntksap_export.profiling.many_worker"],
        input=json.dumps(dict(order)),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
    )
    if process.returncode == -9:
        raise UnavailableError("the process that times layers was killed (out of memory?); try a smaller batch")
    if not process.stdout.endswith("\n"):
        last = (process.stderr.strip().splitlines() or ["no message"])[-1]
        raise UnavailableError(f"the process that times layers ended with code {process.returncode}: {last}")
    answer: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    if "error" in answer:
        raise UnavailableError(f"a layer could not be timed: {answer['error']}")
    return answer
