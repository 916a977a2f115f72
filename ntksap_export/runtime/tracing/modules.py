"""Node times in torch: a clock around each module that has no parts.

Hooks, and not torch.profiler: they cost two calls of Python per module, it costs several records per operator. What a
module with parts computes between them (a residual sum, a flatten) is no node's; neither is what Python does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any, Final, Self

import torch
from torch import nn
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle

from ntksap_export.runtime.eager import TorchSession, set_threads
from ntksap_export.runtime.session import Images
from ntksap_export.runtime.tracing.traced import Clock, NodeTime, Trace, Work, take_turns, timed

METHOD: Final = "torch: a clock in hooks around each module without parts, medians over the calls"
_BY_OUTPUT: Final = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_BY_INPUT: Final = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def trace(model: nn.Module, images: Images, threads: int, seconds: float, precision: str = "fp32") -> Trace:
    """Time the modules of a model on the CPU.

    Args:
        model: moved and put in eval mode in place, as by `TorchSession`; no hook stays.
        images: (N, C, H, W).
        threads: of one operator.
        seconds: about how long.
        precision: as of `TorchSession`.
    """
    set_threads(threads)
    session = TorchSession(model, precision=precision)
    call = session.bind(images)
    return take_turns(call, _Hooked(call, Clocks(model)), seconds, METHOD)


class Clocks:
    """A clock in hooks around each module without parts; the hooks are there while it is entered.

    Attributes:
        runs: milliseconds of each module, call by call.
    """

    def __init__(self, model: nn.Module, clock: Clock = time.perf_counter_ns) -> None:
        self._modules = [(name, each) for name, each in model.named_modules() if next(each.children(), None) is None]
        self._clock = clock
        self._handles: list[RemovableHandle] = []
        self._started: dict[str, int] = {}
        self._run: dict[str, float] = {}
        self._sizes: dict[str, tuple[int, Work]] = {}
        self.runs: list[dict[str, float]] = []

    def __enter__(self) -> Self:
        for name, module in self._modules:
            self._handles.append(module.register_forward_pre_hook(partial(self._before, name)))
            self._handles.append(module.register_forward_hook(partial(self._after, name)))
        return self

    def __exit__(self, *details: object) -> None:
        while self._handles:
            self._handles.pop().remove()

    def end_run(self) -> None:
        """What follows is another call of the model."""
        self.runs.append(self._run)
        self._run = {}

    def nodes(self) -> tuple[NodeTime, ...]:
        """Each module that ran, the median of its milliseconds over the calls; several runs in one call add up."""
        names = list(dict.fromkeys(name for run in self.runs for name in run))
        kinds = {name: type(module).__name__ for name, module in self._modules}
        found = []
        for name in names:
            moved, work = self._sizes[name]
            ms = median(run.get(name, 0.0) for run in self.runs)
            found.append(NodeTime(name, kinds[name], ms, moved, 0, work))
        return tuple(found)

    def _before(self, name: str, module: nn.Module, given: Any) -> None:  # noqa: ARG002
        self._started[name] = self._clock()

    def _after(self, name: str, module: nn.Module, given: Any, made: Any) -> None:
        taken = (self._clock() - self._started[name]) / 1e6
        self._run[name] = self._run.get(name, 0.0) + taken
        if not self.runs:  # the first call is a warm-up: there is time to count
            moved, work = (
                _bytes((given, made, list(module.parameters(recurse=False)))),
                _work(name, module, given, made),
            )
            before = self._sizes.get(name)
            self._sizes[name] = (moved, work) if before is None else (before[0] + moved, _sum(before[1], work))


class _Hooked:
    """The calls with the clocks on; the first is a warm-up."""

    def __init__(self, call: Callable[[], None], clocks: Clocks) -> None:
        self._call, self._clocks = call, clocks
        self._times: list[float] = []
        self.turn(1)

    def turn(self, runs: int) -> None:
        with self._clocks:
            for _ in range(runs):
                self._times += timed(self._call, 1)
                self._clocks.end_run()

    def result(self) -> tuple[tuple[NodeTime, ...], float, int]:
        del self._clocks.runs[:1], self._times[:1]
        return self._clocks.nodes(), median(self._times), len(self._times)


def _work(name: str, module: nn.Module, given: Any, made: Any) -> Work:
    if isinstance(module, _BY_OUTPUT):
        uses = made.numel() // module.weight.shape[0]
    elif isinstance(module, _BY_INPUT):
        uses = given[0].numel() // module.weight.shape[0]
    else:
        counted = None if any(each.ndim > 1 for each in module.parameters(recurse=False)) else 0
        return Work(name, counted, counted)
    return Work(name, module.weight.numel() * uses, int(torch.count_nonzero(module.weight)) * uses)


def _sum(one: Work, other: Work) -> Work:
    macs = None if one.macs is None or other.macs is None else one.macs + other.macs
    nonzero = None if one.nonzero_macs is None or other.nonzero_macs is None else one.nonzero_macs + other.nonzero_macs
    return Work(one.module, macs, nonzero)


def _bytes(values: Any) -> int:
    tensors = (each for each in tree_leaves(values) if isinstance(each, torch.Tensor))
    return sum(each.numel() * each.element_size() for each in tensors)
