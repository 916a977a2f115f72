"""Many small graphs timed in one fresh process, seen from the parent."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from ntksap_export.graph import Graph
from ntksap_export.profiling.one_shot import ask
from ntksap_export.profiling.statistics import median_interval
from ntksap_export.timing import Timing


@dataclass(frozen=True, slots=True)
class Effort:
    """How long graphs are timed.

    Attributes:
        turns: least and most that each graph gets; six say a 95 % interval.
        turn_s: seconds of a turn.
        at_least: calls of a turn, however long they take.
        warmup_s: seconds of calls before, and up to five times that until they are stable.
        target_ci: half of the 95 % interval, as a share of the median, at which turns may end.
    """

    turns: tuple[int, int]
    turn_s: float
    at_least: int
    warmup_s: float
    target_ci: float


LAYERS: Final = Effort((6, 8), 0.01, 2, 0.02, 0.03)
WHOLE: Final = Effort((6, 24), 0.2, 5, 0.3, 0.01)


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
            **asdict(effort),
        }
        return [timing_of(turns) for turns in ask("ntksap_export.profiling.many_worker", order)]


def timing_of(turns: Sequence[Sequence[float]]) -> Timing:
    """From the milliseconds of the calls of each turn: the median turn, and the interval that the turns say."""
    medians = [float(median(turn)) for turn in turns]
    low, high, _ = median_interval(medians)
    return Timing(float(median(medians)), low, high, sum(map(len, turns)))
