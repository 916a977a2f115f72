"""What layers take at each width, and what that says of a whole network: data, and arithmetic on them.

    sum       = the prices of all layers at the widths they have              (each layer timed alone)
    promise   = the whole network's latency, by a line through networks that were timed whole

Layers alone know nothing of what stands between them (norms, sums, pooling, layouts, caches); the line does. After
NetAdapt (Yang et al., ECCV 2018), which looks layers up in such a table, and HALP (Shen et al., NeurIPS 2022), which
prices channels by the steps in which the hardware computes them. Neither corrects the sum by the whole network's time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ntksap_export.pruning.channel_plan import ChannelPlan
from ntksap_export.timing import Timing

Widths = tuple[int, int]  # outputs and inputs of a weight, as its shape has them


@dataclass(frozen=True, slots=True)
class LayerPrices:
    """What one layer takes on a grid of widths.

    Attributes:
        outs: numbers of outputs that were timed, ascending; the last is all of them.
        ins: numbers of inputs, likewise.
        ms: a row for each of `outs`, a value for each of `ins`; nowhere less at a greater width (see `monotone`).
    """

    outs: tuple[int, ...]
    ins: tuple[int, ...]
    ms: tuple[tuple[float, ...], ...]

    def at(self, out: int, into: int, step: int = 1) -> float:
        """Milliseconds with `out` outputs and `into` inputs; linear in each between the widths that were timed.

        Args:
            out: 1 to all; below the least that was timed it costs what that does.
            into: likewise.
            step: the hardware computes so many channels at a time; widths between count as the next multiple.
        """
        row, row_share = _place(self.outs, out, step)
        column, column_share = _place(self.ins, into, step)
        low, high = (
            _between(self.ms[at][column], self.ms[at][min(column + 1, len(self.ins) - 1)], column_share)
            for at in (row, min(row + 1, len(self.outs) - 1))
        )
        return _between(low, high, row_share)


def monotone(ms: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    """The nearest we ask for to what was timed that grows along both axes: between its running maxima and minima."""
    table = np.maximum(np.asarray(ms, dtype=np.float64), 0.0)
    rising, falling = table, table[::-1, ::-1]
    for axis in (0, 1):
        rising, falling = np.maximum.accumulate(rising, axis), np.minimum.accumulate(falling, axis)
    middle = (rising + falling[::-1, ::-1]) / 2
    return tuple(tuple(float(value) for value in row) for row in middle)


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """The prices of a network's layers.

    Attributes:
        layers: by the name of the weight; a layer that is not here costs nothing.
        step: channels that are computed at a time.
        digest: SHA-256 of the timings that it was made of.
    """

    layers: Mapping[str, LayerPrices]
    step: int = 1
    digest: str = ""
    _known: dict[tuple[str, int, int], float] = field(default_factory=dict, repr=False, compare=False)

    def price(self, name: str, out: int, into: int) -> float:
        """Milliseconds of one layer at these widths."""
        key = (name, out, into)
        if key not in self._known:
            self._known[key] = self.layers[name].at(out, into, self.step) if name in self.layers else 0.0
        return self._known[key]


class Calibration:
    """A rising line through (sum of the layers, milliseconds of the whole network), of networks timed whole."""

    def __init__(self, points: Iterable[tuple[float, float]] = ()) -> None:
        self._points: dict[float, float] = {}
        for total, ms in points:
            self.add(total, ms)

    def add(self, total: float, ms: float) -> None:
        """Put one more point in; a second one at the same place takes the first's."""
        self._points[total] = ms

    def promise(self, total: float) -> float:
        """Milliseconds of a network whose layers come to `total`; beyond the points, in proportion to the last."""
        totals, whole = self._line()
        if total > totals[-1]:
            return whole[-1] * total / totals[-1]
        return float(np.interp(total, totals, whole))

    def total_for(self, ms: float) -> float:
        """The greatest sum of layers that promises no more than `ms`; the least that was timed, if none does."""
        totals, whole = self._line()
        if ms >= whole[-1]:
            return totals[-1]
        at = bisect_right(whole, ms)
        if at == 0:
            return totals[0]
        share = (ms - whole[at - 1]) / (whole[at] - whole[at - 1])
        return _between(totals[at - 1], totals[at], share)

    def _line(self) -> tuple[list[float], list[float]]:
        totals = sorted(self._points)
        column = [[self._points[total]] for total in totals]
        return totals, [row[0] for row in monotone(column)]


class Meter(Protocol):
    """Where times come from: this machine, a file, or what a test makes up."""

    def table(self, widths: Mapping[str, tuple[Widths, Widths]]) -> LatencyTable:
        """Prices of all layers; `widths` has for each weight the least and the dense outputs and inputs."""

    def whole(self, plan: ChannelPlan) -> Timing:
        """The time of the network that `plan` leaves, as a whole."""


def _place(widths: Sequence[int], width: int, step: int) -> tuple[int, float]:
    """Between which two of `widths` one is: the place of the first, and how far on the way to the next."""
    if width not in widths:
        width = -(-width // step) * step
    width = min(max(width, widths[0]), widths[-1])
    at = bisect_right(widths, width) - 1
    if at == len(widths) - 1:
        return at, 0.0
    return at, (width - widths[at]) / (widths[at + 1] - widths[at])


def _between(low: float, high: float, share: float) -> float:
    return low if share == 0 or low == high else low + (high - low) * share
