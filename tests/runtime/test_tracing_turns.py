from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from ntksap_export.runtime.tracing.modules import Clocks
from ntksap_export.runtime.tracing.traced import NodeTime, Work, between, take_turns, timed


class Clock:
    """Nanoseconds that pass when told."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now

    def spends(self, ms: float) -> Callable[..., None]:
        def call(*_: object) -> None:
            self.now += int(ms * 1e6)

        return call


class Twin:
    """A watched network of one node."""

    def __init__(self, clock: Clock, ms: float) -> None:
        self.turns: list[int] = []
        self._clock, self._call, self._times = clock, clock.spends(ms), list[float]()

    def turn(self, runs: int) -> None:
        self.turns.append(runs)
        self._times += timed(self._call, runs, self._clock)

    def result(self) -> tuple[tuple[NodeTime, ...], float, int]:
        return (NodeTime("a", "Conv", 1.5),), max(self._times), len(self._times)


@pytest.mark.parametrize(
    ("seconds", "runs"),
    [(1.0, 50), (0.0, 3), (100.0, 200)],  # 5 turns of each: 1 s / 10 / 2 ms
)
def test_watched_and_plain_calls_take_turns(seconds: float, runs: int) -> None:
    clock = Clock()
    twin = Twin(clock, 3)

    trace = take_turns(clock.spends(2), twin, seconds, "by hand", clock=clock)

    assert twin.turns == [runs] * 5
    assert (trace.plain_ms, trace.total_ms, trace.runs, trace.method) == (2, 3, 5 * runs, "by hand")


def test_what_ran_before_is_taken_out_of_a_mean() -> None:
    warm, end = {"a": 100.0, "b": 7.0}, {"a": 40.0, "b": 7.0, "late": 4.0}

    actual = between(warm, end, before=2, runs=8)

    assert actual == {"a": 0.025, "b": 0.007, "late": 0.005}


def test_means_that_were_rounded_are_never_below_zero() -> None:
    assert between({"a": 9.0}, {"a": 1.0}, before=5, runs=5) == {"a": 0.0}


class Timed(nn.Module):
    """A leaf that takes its time, and uses its weight."""

    def __init__(self, call: Callable[..., None]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 3.0]]))
        self._call = call

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self._call()
        return torch.nn.functional.linear(x, self.weight)


class Twice(nn.Module):
    """A layer that runs twice, one of its own, and time of its own between."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3, bias=False)
        self.own = Timed(clock.spends(5))
        self.act = nn.ReLU()
        self._between = clock.spends(1)
        with torch.no_grad():
            self.fc.weight[0] = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.fc(self.fc(x))
        self._between()
        return self.own(self.act(x))


def test_modules_are_timed_by_their_hooks_which_do_not_stay() -> None:
    clock = Clock()
    model = Twice(clock)
    with Clocks(model, clock) as clocks:
        for _ in range(3):
            model(torch.ones(4, 3))
            clocks.end_run()

    nodes = clocks.nodes()

    assert [(node.name, node.op, node.ms) for node in nodes] == [
        ("fc", "Linear", 0.0),
        ("act", "ReLU", 0.0),
        ("own", "Timed", 5.0),
    ]
    assert [node.work for node in nodes] == [
        Work("fc", 2 * 4 * 9, 2 * 4 * 6),  # it runs twice
        Work("act", 0, 0),
        Work("own", None, None),
    ]
    assert nodes[0].moved_bytes == 2 * 4 * (12 + 12 + 9)
    assert [len(module._forward_hooks) for module in model.modules()] == [0] * 4


@pytest.mark.parametrize(
    ("layer", "images", "macs"),
    [
        (nn.Conv2d(4, 6, 3, groups=2, padding=1), (2, 4, 5, 5), 2 * 25 * 6 * 2 * 9),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), (2, 4, 5, 5), 2 * 25 * 4 * 6 * 4),
        (nn.Linear(8, 5), (3, 7, 8), 21 * 40),
        (nn.BatchNorm2d(4), (2, 4, 5, 5), 0),
    ],
)
def test_the_work_of_a_module(layer: nn.Module, images: tuple[int, ...], macs: int) -> None:
    model = nn.Sequential(layer).eval()
    with torch.inference_mode(), Clocks(model) as clocks:
        model(torch.ones(images))
        clocks.end_run()

    (node,) = clocks.nodes()

    assert node.work == Work("0", macs, macs)
