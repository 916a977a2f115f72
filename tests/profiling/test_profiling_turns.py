"""The order and the length of turns, with processes that are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ntksap_export.profiling.isolated import CellError
from ntksap_export.profiling.settings import Settings
from ntksap_export.profiling.statistics import MIN_TURNS, median_interval
from ntksap_export.profiling.turns import MAX_TIMES, Turns, take_turns

BASE = {"backends": (), "devices": (), "batches": (), "threads": ()}


class FakeProcess:
    """Calls last as `draw(turn)` says, in milliseconds; `log` gets its name for each turn."""

    def __init__(self, name: str, draw: Callable[[int], float], log: list[str], per_turn: int = 0) -> None:
        self._name, self._draw, self._log, self._per_turn = name, draw, log, per_turn
        self.asked: list[tuple[float, int]] = []

    def run(self, seconds: float, at_least: int) -> dict[str, Any]:
        self._log.append(self._name)
        value = self._draw(len(self.asked))
        self.asked.append((seconds, at_least))
        times = [value] * (self._per_turn or max(at_least, round(seconds * 1e3 / value)))
        return {"times_ms": times, "wall_s": sum(times) / 1e3, "cpu": {"total": float(len(self.asked))}}


def _settings(**changes: Any) -> Settings:
    return Settings(**{**BASE, "min_time_s": 1.2, "max_time_s": 6.0, **changes})


def test_cells_take_turns_and_end_when_they_are_known() -> None:
    log: list[str] = []
    cells = [Turns(FakeProcess(name, lambda _: 2.0, log)) for name in "abc"]

    taken = take_turns(cells, _settings())

    assert ["a", "b", "c"] * MIN_TURNS == log
    assert MIN_TURNS == taken
    assert [1.2] * 3 == pytest.approx([cell.wall_s for cell in cells])
    assert list(np.repeat(range(MIN_TURNS), 100)) == cells[0].turn_of
    assert dict.fromkeys(range(MIN_TURNS), 2.0) == cells[0].medians
    assert {"cpu": {"total": float(MIN_TURNS)}} == cells[0].extra


def test_a_noisy_cell_goes_on_alone_until_its_time_is_up() -> None:
    log: list[str] = []
    noisy = Turns(FakeProcess("noisy", lambda turn: 1.0 + turn % 2, log))
    calm = Turns(FakeProcess("calm", lambda _: 2.0, log))

    take_turns([noisy, calm], _settings())

    assert MIN_TURNS == log.count("calm")
    assert 6.0 <= noisy.wall_s <= 6.3
    assert log.count("noisy") == len(noisy.medians)


def test_the_baseline_goes_on_as_long_as_what_is_compared_with_it() -> None:
    log: list[str] = []
    noisy = Turns(FakeProcess("noisy", lambda turn: 1.0 + turn % 2, log))
    baseline = Turns(FakeProcess("baseline", lambda _: 2.0, log), partners=[noisy])

    take_turns([baseline, noisy], _settings())

    assert log.count("noisy") == log.count("baseline")
    assert baseline.medians.keys() == noisy.medians.keys()


def test_a_noisy_cell_ends_once_its_interval_is_narrow() -> None:
    draw = np.random.default_rng(0)
    cell = Turns(FakeProcess("a", lambda _: float(draw.normal(2.0, 0.06)), []))

    take_turns([cell], _settings(max_time_s=1e6, target_ci=0.005))

    low, high, level = median_interval(list(cell.medians.values()))
    assert (high - low) / 2 <= 0.005 * 2.1
    assert MIN_TURNS < len(cell.medians) < 500
    assert 0.95 == level


def test_the_least_time_is_kept_however_calm() -> None:
    cell = Turns(FakeProcess("a", lambda _: 0.125, [], per_turn=1000))  # turns shorter than a sixth of the time

    take_turns([cell], _settings())

    assert 1.25 == cell.wall_s
    assert 10 == len(cell.medians)


def test_slow_calls_have_six_turns_of_two_whatever_the_time() -> None:
    process = FakeProcess("a", lambda _: 9000.0, [])
    cell = Turns(process)

    take_turns([cell], _settings())

    assert 2 * MIN_TURNS == len(cell.times_ms)
    assert [(0.2, 2)] * MIN_TURNS == [(pytest.approx(seconds), least) for seconds, least in process.asked]


def test_raw_times_have_a_limit() -> None:
    cell = Turns(FakeProcess("a", lambda turn: 1e-4 * (1 + turn % 2), [], per_turn=5000))

    take_turns([cell], _settings(min_time_s=0.001, max_time_s=1e6))

    assert MAX_TIMES == len(cell.times_ms)


def test_a_cell_that_fails_ends_and_the_others_go_on() -> None:
    log: list[str] = []

    def fails(turn: int) -> float:
        if turn == 2:
            raise CellError("fell over")
        return 2.0

    broken, other = Turns(FakeProcess("broken", fails, log)), Turns(FakeProcess("other", lambda _: 2.0, log))
    other.partners.append(broken)

    take_turns([broken, other], _settings())

    assert "fell over" == str(broken.failed)
    assert 3 == log.count("broken")
    assert MIN_TURNS == log.count("other")
    assert other.failed is None


@pytest.mark.parametrize("target", [0.05, 0.01])
def test_repeated_runs_agree_within_the_stated_error(target: float) -> None:
    # A whole measurement, ended by its own rule, over and over: how often does the interval hold the true median?
    draw = np.random.default_rng(3)
    inside = 0
    for _ in range(400):
        cell = Turns(FakeProcess("a", lambda _: float(draw.lognormal(0.0, 0.03)), [], per_turn=2))
        take_turns([cell], _settings(min_time_s=0.006, max_time_s=0.08, target_ci=target))
        low, high, _ = median_interval(list(cell.medians.values()))
        inside += low <= 1.0 <= high

    assert 0.92 <= inside / 400 <= 0.995
