"""Distributions and intervals along one axis: latencies as boxes, ratios to a baseline as a forest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ntksap_export.report.plots import svg
from ntksap_export.report.plots.axes import linear, log, tick_text
from ntksap_export.report.plots.bands import Band, Place, banded


@dataclass(frozen=True, slots=True)
class Strip:
    """A distribution: `box` from first to third quartile, a line from `low` to p99, marks at p50, p90, p99.

    Attributes:
        interval: of the median; drawn darker inside the box.
    """

    name: str
    text: str
    title: str
    p50: float
    p90: float | None = None
    p99: float | None = None
    low: float | None = None
    box: tuple[float, float] | None = None
    interval: tuple[float, float] | None = None
    series: int = 0


@dataclass(frozen=True, slots=True)
class Forest:
    """A ratio with its interval, if that is known."""

    name: str
    text: str
    title: str
    value: float
    low: float | None = None
    high: float | None = None
    series: int = 0
    shape: int = 1


def strip_chart(groups: Sequence[tuple[str, Sequence[Strip]]], *, label: str, axis: str) -> str:
    """One row a distribution, all from zero; on a logarithmic axis where they span more than twelvefold."""
    strips = [strip for _, group in groups for strip in group]
    ends = [value for strip in strips for value in (strip.p50, strip.p90, strip.p99) if value is not None]
    middles = [strip.p50 for strip in strips]
    if middles and 0 < 12 * min(middles) < max(ends):
        scale = log(axis, [*ends, *(strip.low for strip in strips if strip.low)])
    else:
        scale = linear(axis, ends, zero=True, count=4)
    return banded([(heading, [_strip(strip) for strip in group]) for heading, group in groups], scale, label=label)


def _strip(strip: Strip) -> Band:
    def draw(place: Place, middle: float) -> list[str]:
        colour = svg.colour(strip.series)
        far = max(value for value in (strip.p50, strip.p90, strip.p99) if value is not None)
        near = strip.p50 if strip.low is None else strip.low
        parts = [svg.rule(place(near), middle, place(far), middle, 0.7)]
        if strip.box:
            parts.append(_box(place, middle, *strip.box, 10, colour, "0.45"))
        if strip.interval:
            parts.append(_box(place, middle, *strip.interval, 10, colour, "1"))
        parts.append(_tick(place(strip.p50), middle, 7.5, 2.5, colour))
        for value, half in ((strip.p90, 4.0), (strip.p99, 6.0)):
            if value is not None:
                parts.append(_tick(place(value), middle, half, 1.2, "currentColor"))
        return parts

    return Band(strip.name, strip.text, strip.title, draw)


def _box(place: Place, middle: float, low: float, high: float, height: float, colour: str, opacity: str) -> str:
    width = max(place(high) - place(low), 0.6)
    return svg.element(
        "rect", x=place(low), y=middle - height / 2, width=width, height=height, fill=colour, fill_opacity=opacity
    )


def _tick(x: float, middle: float, half: float, width: float, colour: str) -> str:
    return svg.element("line", x1=x, x2=x, y1=middle - half, y2=middle + half, stroke=colour, stroke_width=width)


def forest_chart(groups: Sequence[tuple[str, Sequence[Forest]]], *, label: str, axis: str) -> str:
    """Ratios about 1, the line of no difference; a logarithmic axis where they span more than fourfold."""
    rows = [row for _, group in groups for row in group]
    values = [v for row in rows for v in (row.value, row.low, row.high) if v is not None and math.isfinite(v)]
    if not values or min(values) <= 0:
        return ""
    wide = max(values) / min(values) > 4
    scale = log(axis, [*values, 1.0]) if wide else linear(axis, [*values, 0.95, 1.05], count=4, form=tick_text)
    return banded([(heading, [_ratio(row) for row in group]) for heading, group in groups], scale, label=label)


def _ratio(row: Forest) -> Band:
    def draw(place: Place, middle: float) -> list[str]:
        colour = svg.colour(row.series)
        parts = [svg.rule(place(1.0), middle - 9, place(1.0), middle + 9, 0.7, stroke_dasharray="3 2")]
        if row.low is not None and row.high is not None:
            pen: dict[str, svg.Value] = {"stroke": colour, "stroke_width": 2}
            low, high = place(row.low), place(row.high)
            parts.append(svg.element("line", x1=low, x2=high, y1=middle, y2=middle, **pen))
            parts += [_tick(end, middle, 4, 2, colour) for end in (low, high)]
        return [*parts, svg.mark(row.shape, place(row.value), middle, 4, fill=colour)]

    return Band(row.name, row.text, row.title, draw)
