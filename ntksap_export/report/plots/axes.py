"""Axes: from values to places, with ticks at round numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ntksap_export.report.plots import svg

Format = Callable[[float], str]


def tick_text(value: float) -> str:
    """A round number as it is read: 0.3, 20, 1,000."""
    return f"{value:,.10g}"


@dataclass(frozen=True, slots=True)
class Axis:
    """One scale. `name` says the quantity and its unit; `ticks` are ascending and lie between `low` and `high`."""

    name: str
    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False
    format: Format = tick_text

    def share(self, value: float) -> float:
        """Where `value` lies between the ends, 0 to 1; outside them beyond; on a log axis `value` is positive."""
        if self.log:
            value, low, high = math.log10(value), math.log10(self.low), math.log10(self.high)
        else:
            low, high = self.low, self.high
        return (value - low) / (high - low)


def linear(
    name: str,
    values: Iterable[float],
    *,
    zero: bool = False,
    whole: bool = False,
    count: int = 5,
    form: Format = tick_text,
) -> Axis | None:
    """An axis whose ends are ticks that enclose the finite values; None without any.

    Args:
        name: quantity and unit.
        values: what will be drawn.
        zero: begin at 0.
        whole: ticks are whole numbers, and the ends are the values' own, as for epochs.
        count: about how many steps.
        form: writes a tick.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return None
    low, high = (0.0 if zero else min(finite)), max(finite)
    ticks = nice_ticks(low, max(low, high) or (1.0 if zero else 0.0), count, whole=whole)
    if whole and high > low:
        return Axis(name, low, high, tuple(tick for tick in ticks if low <= tick <= high), format=form)
    return Axis(name, ticks[0], ticks[-1], ticks, format=form)


def log(name: str, values: Iterable[float], *, form: Format = tick_text) -> Axis | None:
    """A logarithmic axis that encloses the positive finite values; None without any."""
    finite = [value for value in values if math.isfinite(value) and value > 0]
    if not finite:
        return None
    low, high = min(finite), max(finite)
    decades = math.log10(high / low)
    steps = (1, 2, 5) if decades < 2.5 else (1,)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    every = max(1, round(decades / 6))
    ticks = [s * 10.0**p for p in powers for s in steps if p % every == 0]
    first = max((tick for tick in ticks if tick <= low), default=ticks[0])
    last = min((tick for tick in ticks if tick >= high and tick > first), default=ticks[-1])
    return Axis(name, first, last, tuple(t for t in ticks if first <= t <= last), log=True, format=form)


def nice_ticks(low: float, high: float, count: int = 5, *, whole: bool = False) -> tuple[float, ...]:
    """Evenly spaced round numbers (1, 2 or 5 times a power of ten) that enclose `low` and `high`.

    Args:
        low: finite.
        high: finite, not below `low`; a range too narrow for its magnitude is widened first.
        count: about how many steps, at least 1; the answer has between 2 and `2 * count + 3` ticks.
        whole: steps are whole numbers, as for epochs.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"ticks need finite low <= high; got {low} and {high}")
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        margin = 0.5 * (abs(low) or 1.0)
        low, high = low - margin, high + margin
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if raw <= s * power * (1 + 1e-9))
    if whole:
        step = max(1.0, step)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(index * step for index in range(first, max(last, first + 1) + 1))


@dataclass(frozen=True, slots=True)
class Key:
    """An entry of a legend: how a series is drawn, and its name; `series` None is the colour of the words."""

    name: str
    series: int | None
    shape: int | None = None
    dash: str | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """Two axes laid into a picture; what is drawn inside asks it for places."""

    x: Axis
    y: Axis
    left: float
    right: float
    top: float
    bottom: float

    def to_x(self, value: float) -> float:
        return self.left + (self.right - self.left) * self.x.share(value)

    def to_y(self, value: float) -> float:
        return self.bottom - (self.bottom - self.top) * self.y.share(value)

    def inside(self, x: float, y: float) -> bool:
        """Whether a point of values lies within both axes, a hair beyond their ends included."""
        return all(-1e-9 <= share <= 1 + 1e-9 for share in (self.x.share(x), self.y.share(y)))

    def parts(self) -> list[str]:
        """Grid, ticks and the names of the axes: y above its ticks, x below them."""
        found = [svg.text(0, self.top - 11, self.y.name, fill_opacity="0.8")]
        for value in self.y.ticks:
            y = self.to_y(value)
            found.append(svg.rule(self.left, y, self.right, y, 0.15))
            found.append(svg.text(self.left - 5, y + 4, self.y.format(value), text_anchor="end", font_size=10.5))
        for value in _apart(self.x, self.right - self.left):
            x = self.to_x(value)
            found.append(svg.rule(x, self.bottom, x, self.bottom + 4, 0.5))
            found.append(svg.text(x, self.bottom + 16, self.x.format(value), text_anchor="middle", font_size=10.5))
        found.append(svg.rule(self.left, self.bottom, self.right, self.bottom, 0.5))
        middle = (self.left + self.right) / 2
        return [*found, svg.text(middle, self.bottom + 33, self.x.name, text_anchor="middle", fill_opacity="0.8")]


def _apart(axis: Axis, length: float) -> list[float]:
    """The ticks whose words do not run into each other."""
    kept: list[float] = []
    for value in axis.ticks:
        room = length * (axis.share(value) - axis.share(kept[-1])) if kept else math.inf
        if (
            not kept
            or room > svg.width_of(axis.format(value), 10.5) / 2 + svg.width_of(axis.format(kept[-1]), 10.5) / 2 + 6
        ):
            kept.append(value)
    return kept


def framed(
    x: Axis, y: Axis, keys: Sequence[Key], label: str, draw: Callable[[Frame], Sequence[str]], height: float = 170
) -> str:
    """A picture: legend, name of y, the plot of `height`, name of x."""
    legend, down = legend_of(keys)
    left = 8 + max(svg.width_of(y.format(tick), 10.5) for tick in y.ticks)
    last = svg.width_of(x.format(x.ticks[-1]), 10.5) / 2 if x.ticks else 0
    frame = Frame(x, y, left, svg.WIDTH - max(8.0, last), down + 28, down + 28 + height)
    return svg.chart(frame.bottom + 40, label, [*legend, *frame.parts(), *draw(frame)])


def legend_of(keys: Sequence[Key]) -> tuple[list[str], float]:
    """Entries from left to right, in as many rows as they need; and how far down they reach."""
    parts: list[str] = []
    x, y = 0.0, 12.0
    for key in keys:
        name, sample = key.name if len(key.name) <= 48 else key.name[:47] + "…", 14 if key.shape is not None else 26
        length = sample + svg.width_of(name)
        if x and x + length > svg.WIDTH:
            x, y = 0.0, y + 16
        parts += [_sample(key, x, y - 4), svg.text(x + sample, y, name)]
        x += length + 14
    return parts, y + 2 if keys else 0.0


def _sample(key: Key, x: float, y: float) -> str:
    if key.shape is not None:
        return svg.mark(key.shape, x + 5, y, 4, fill="currentColor" if key.series is None else svg.colour(key.series))
    series = key.series or 0
    return svg.path([(x, y), (x + 20, y)], series, stroke_dasharray=key.dash or svg.dash(series))
