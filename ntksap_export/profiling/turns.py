"""Cells take turns, A B C A B C ..., until the median of each is known well enough.

A cell of this room is a process (`isolated.IsolatedCell`); here it is only something that runs for a while and tells
its times, so that the arithmetic is tested without processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

from ntksap_export.profiling.isolated import CellError
from ntksap_export.profiling.measure import MIN_RUNS
from ntksap_export.profiling.settings import Settings
from ntksap_export.profiling.statistics import MIN_TURNS, half_width

MAX_TIMES = 50_000  # of one cell: more raw times say no more


_ALL = 1 - 1e-9  # of a time that was given in parts


class Runner(Protocol):
    """What takes turns."""

    def run(self, seconds: float, at_least: int) -> Mapping[str, Any]:
        """One turn: `times_ms` of each call, `wall_s` that they took, and what else the process counted."""


@dataclass
class Turns:
    """A cell and all its turns so far.

    Attributes:
        runner: its process.
        partners: cells that are compared with this one, or it with them; it goes on until they are known.
        times_ms: of every call.
        turn_of: the number of the turn of each.
        wall_s: all turns together.
        extra: what the process counted, as it told it after the last turn.
        medians: of each turn, by its number.
        failed: why it ended early, or None.
    """

    runner: Runner
    partners: list[Turns] = field(default_factory=list, repr=False)
    times_ms: list[float] = field(default_factory=list)
    turn_of: list[int] = field(default_factory=list)
    wall_s: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)
    medians: dict[int, float] = field(default_factory=dict)
    failed: CellError | None = None

    def take(self, number: int, seconds: float, at_least: int) -> None:
        """One turn; one that fails is the last."""
        try:
            told = self.runner.run(seconds, at_least)
        except CellError as error:
            self.failed = error
            return
        times = [float(value) for value in told["times_ms"]]
        self.times_ms += times
        self.turn_of += [number] * len(times)
        self.medians[number] = median(times)
        self.wall_s += float(told["wall_s"])
        self.extra = {key: value for key, value in told.items() if key not in ("times_ms", "wall_s")}

    def known(self, settings: Settings) -> bool:
        """Whether it has run long enough: the median's interval is narrow, or the time is used up."""
        if self.failed is not None:
            return True
        if len(self.medians) < MIN_TURNS or self.wall_s < settings.min_time_s * _ALL:
            return False
        if self.wall_s >= settings.max_time_s * _ALL or len(self.times_ms) >= MAX_TIMES:
            return True
        return half_width(list(self.medians.values())) <= settings.target_ci


def take_turns(cells: Sequence[Turns], settings: Settings, on_turn: Callable[[int, int], None] | None = None) -> int:
    """Let each cell run for `min_time_s` / 6 in turn until all are known; how many turns there were.

    Args:
        cells: changed in place.
        settings: the times and the width that is asked for.
        on_turn: told the number of the turn and how many cells still run.
    """
    seconds, at_least, number = settings.min_time_s / MIN_TURNS, -(-MIN_RUNS // MIN_TURNS), 0
    running = list(cells)
    while running:
        for cell in running:
            cell.take(number, seconds, at_least)
        number += 1
        done = {id(cell) for cell in running if cell.known(settings)}
        running = [
            cell
            for cell in running
            if cell.failed is None
            and (id(cell) not in done or any(other in running and id(other) not in done for other in cell.partners))
        ]
        if on_turn is not None:
            on_turn(number, len(running))
    return number
