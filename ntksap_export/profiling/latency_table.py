"""The latency table of a network: each layer timed alone at a few widths, and networks of it timed whole.

Layers that are alike are timed once; what the run's table, `--latency-table` or the user's cache has is not timed
again. Networks are timed afresh in each run: what was measured beside what was promised is never an old number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from ntksap_export.atomic import json_digest
from ntksap_export.errors import ConfigError
from ntksap_export.graph import Graph
from ntksap_export.graph.one_layer import LayerShape, around_graph, layer_graph, layer_shapes
from ntksap_export.profiling.many import LAYERS, WHOLE, Effort, time_graphs
from ntksap_export.profiling.timings import Timings, cached, keep_in_cache
from ntksap_export.progress import Progress, Silent
from ntksap_export.pruning import ChannelPlan
from ntksap_export.pruning.latency import LatencyTable, LayerPrices, Widths, monotone
from ntksap_export.timing import Timing

_TOGETHER = 24  # graphs in one process
_PARTS = (0.25, 0.5)  # of a side, between the least and all of it
# A layer to ask in what steps channels are computed, and the outputs to ask about.
_PROBE = LayerShape((3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 1, (28, 28))
_PROBED = (32, 48, 56, 64)

TimeGraphs = Callable[[Sequence[Graph], Mapping[str, object], Effort], list[Timing]]


@dataclass(frozen=True, slots=True)
class _Job:
    """A graph that has to be timed, and what its timing is called."""

    name: str
    make: Callable[[], Graph]


@dataclass
class MachineMeter:
    """What times layers and networks on this machine (a `pruning.latency.Meter`).

    Attributes:
        model: the dense network; left untouched.
        shape: (C, H, W) of its input.
        export: the network that a plan leaves, as the graph that is timed.
        timings: what is known so far; grows.
        file: where they are written as they come; None writes nothing.
        foreign: whether they are of another machine, so that nothing can be added.
        progress: where the timing of layers is shown.
        time_graphs: replaced in tests.
    """

    model: nn.Module
    shape: tuple[int, int, int]
    export: Callable[[ChannelPlan], Graph]
    timings: Timings
    file: Path | None = None
    foreign: bool = False
    progress: Progress = field(default_factory=Silent)
    time_graphs: TimeGraphs = time_graphs
    _layers: dict[str, tuple[LayerShape, ...]] = field(default_factory=dict)

    def table(self, widths: Mapping[str, tuple[Widths, Widths]]) -> LatencyTable:
        """Prices of all layers, timed where they are not known."""
        batch = int(self.timings.settings["batch"])
        probes = [job for out in _PROBED for job in _jobs(_PROBE, out, 64, batch)]
        self._time(probes)
        step = _step_of([self._layer_ms(_PROBE, out, 64) for out in _PROBED])
        grids = {
            name: tuple(
                grid(least, most, math.lcm(step, shape.groups or 1)) for least, most in zip(*widths[name], strict=True)
            )
            for name, (shape, *_) in self._shapes().items()
            if name in widths
        }
        self._time(
            job
            for name, (outs, ins) in grids.items()
            for shape in self._shapes()[name]
            for out in outs
            for into in ins
            for job in _jobs(shape, out, into, batch)
        )
        layers = {name: self._prices(name, outs, ins) for name, (outs, ins) in grids.items()}
        self._save()
        prices = {name: [prices.outs, prices.ins, prices.ms] for name, prices in layers.items()}
        digest = json_digest([prices, step])
        return LatencyTable(layers, step, digest)

    def whole(self, plan: ChannelPlan) -> Timing:
        """The time of the network that `plan` leaves, as a whole; timed once in a run."""
        name = self._network_name(plan)
        if name not in self.timings.known:
            self._refuse_foreign(name)
            timing, *_ = self.time_graphs([self.export(plan)], self.timings.settings, WHOLE)
            self.timings.known[name] = Timing.from_json(timing.to_json())
            self._save()
        return self.timings.known[name]

    def _time(self, jobs: Iterator[_Job] | Sequence[_Job]) -> None:
        """Have all of `jobs` known: from the cache, or timed."""
        known, wanted = self.timings.known, {job.name: job for job in jobs}
        missing = [name for name in wanted if name not in known]
        if not missing:
            return
        if not self.foreign:
            cache = cached(self.timings).known
            known.update({name: cache[name] for name in missing if name in cache})
            missing = [name for name in missing if name not in known]
        with self.progress.task("time layers", len(missing)) as task:
            for start in range(0, len(missing), _TOGETHER):
                names = missing[start : start + _TOGETHER]
                self._refuse_foreign(names[0])
                graphs = [wanted[name].make() for name in names]
                for name, timing in zip(names, self.time_graphs(graphs, self.timings.settings, LAYERS), strict=True):
                    known[name] = Timing.from_json(timing.to_json())  # as it will be read again, to the digit
                task.advance(len(names), note=names[-1])
        if missing:
            layers = {name: timing for name, timing in known.items() if not name.startswith("network")}
            keep_in_cache(Timings(self.timings.machine, self.timings.settings, layers))

    def _save(self) -> None:
        if self.file is not None:
            self.timings.save(self.file)

    def _refuse_foreign(self, name: str) -> None:
        if self.foreign:
            raise ConfigError(
                f"the latency table was made on another machine ({self.timings.machine.get('cpu')}) and has no "
                f"'{name}'; leave --latency-table away to measure here"
            )

    def _shapes(self) -> dict[str, tuple[LayerShape, ...]]:
        if not self._layers:
            self._layers = layer_shapes(self.model, self.shape)
        return self._layers

    def _prices(self, name: str, outs: tuple[int, ...], ins: tuple[int, ...]) -> LayerPrices:
        shapes = self._shapes()[name]
        timed = [[sum(self._layer_ms(shape, out, into) for shape in shapes) for into in ins] for out in outs]
        return LayerPrices(outs, ins, monotone(timed))

    def _layer_ms(self, shape: LayerShape, out: int, into: int) -> float:
        around = shape.around(out, into)
        known = self.timings.known
        return max(0.0, known[shape.name(out, into)].ms - (known[around].ms if around else 0.0))

    def _network_name(self, plan: ChannelPlan) -> str:
        """All that its time depends on, as a digest: every layer at its widths."""
        words: list[str] = [type(self.model).__name__]
        mask = plan.mask(self.model)
        for name, shapes in self._shapes().items():
            out, into = (int(mask[name].transpose(0, axis).flatten(1).any(1).sum()) for axis in (0, 1))
            words += [shape.name(out, into) for shape in shapes]
        return f"network {json_digest(words)[:16]}"


def grid(least: int, most: int, step: int) -> tuple[int, ...]:
    """The widths at which a side is timed: the least, all, and between them a quarter and a half, in whole steps."""
    between = {-(-round(part * most) // step) * step for part in _PARTS}
    return tuple(sorted({least, most} | {width for width in between if least < width < most}))


def _jobs(shape: LayerShape, out: int, into: int, batch: int) -> Iterator[_Job]:
    yield _Job(shape.name(out, into), lambda: layer_graph(shape, out, into, batch))
    around = shape.around(out, into)
    if around is not None:
        yield _Job(around, lambda: around_graph(shape, shape.inputs(out, into), batch))


def _step_of(ms: Sequence[float]) -> int:
    """In what steps channels are computed, from the times with 32, 48, 56 and 64 of them: 32, 16, or 1 (none seen)."""
    at_32, at_48, at_56, at_64 = ms
    if at_48 > at_32 + 0.75 * (at_64 - at_32):  # half of the way would be a straight line
        return 32
    return 16 if at_56 > at_48 + 0.75 * (at_64 - at_48) else 1
