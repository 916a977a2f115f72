"""Horizontal bars: sizes, memory, throughput; and many thin rows, one a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ntksap_export.report.plots import svg
from ntksap_export.report.plots.axes import Format, linear, nice_ticks, tick_text
from ntksap_export.report.plots.bands import Band, Place, banded

_PITCH, _TOP, _LONGEST = 14.0, 32.0, 22


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; `series` picks the colour, `text` is its number in words."""

    name: str
    value: float
    text: str
    series: int = 1


@dataclass(frozen=True, slots=True)
class Group:
    """Bars under one heading."""

    name: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a row chart: a filled bar inside (or past) an outline."""

    name: str
    value: float
    outline: float
    text: str
    title: str


def bar_chart(groups: Sequence[Group], *, label: str, axis: str, tick_format: Format = tick_text) -> str:
    """Bars from zero, grouped under headings; one that is below zero is empty."""
    values = [bar.value for group in groups for bar in group.bars]
    scale = linear(axis, values, zero=True, count=4, form=tick_format)
    return banded([(group.name, [_bar(bar, group.name) for bar in group.bars]) for group in groups], scale, label=label)


def _bar(bar: Bar, heading: str) -> Band:
    def draw(place: Place, middle: float) -> list[str]:
        width = max(place(bar.value) - place(0.0), 0.5)
        return [svg.element("rect", x=place(0.0), y=middle - 6.5, width=width, height=13, fill=svg.colour(bar.series))]

    return Band(bar.name, bar.text, ", ".join(w for w in (heading, bar.name, bar.text) if w), draw)


def row_chart(rows: Sequence[Row], *, label: str, axis: str, tick_format: Format = tick_text) -> str:
    """Many thin rows with an outline each; long names are cut from the front and stand whole in the title."""
    if not rows:
        return ""
    longest = min(_LONGEST, max(len(row.name) for row in rows))
    left = 8 + svg.width_of("x" * longest, 10)
    right = svg.WIDTH - 8 - max(svg.width_of(row.text, 10) for row in rows)
    ticks = nice_ticks(0, max(max(row.value, row.outline) for row in rows) or 1)
    scale, bottom = (right - left) / ticks[-1], _TOP + _PITCH * len(rows)
    parts = [svg.text((left + right) / 2, 10, axis, text_anchor="middle", fill_opacity="0.8")]
    for tick in ticks:
        x = left + tick * scale
        parts.append(svg.rule(x, _TOP - 4, x, bottom, 0.5 if tick == 0 else 0.14))
        parts.append(svg.text(x, _TOP - 8, tick_format(tick), text_anchor="middle", font_size=10))
    for index, row in enumerate(rows):
        y = _TOP + _PITCH * index + 2
        width = max(0.0, row.value * scale)
        inside = [
            svg.text(left - 5, y + 8.5, svg.shorten(row.name, longest), text_anchor="end"),
            svg.element("rect", x=left, y=y, width=width, height=10, fill=svg.colour(1)),
            _outline(left, y, row.outline * scale, inside=row.value > row.outline),
            svg.text(svg.WIDTH, y + 8.5, row.text, text_anchor="end"),
        ]
        parts.append(svg.group(row.title, *inside, font_size=10))
    return svg.chart(bottom + 4, label, parts)


def _outline(x: float, y: float, width: float, *, inside: bool) -> str:
    """An outline that the filled bar covers is drawn in the colour of the page, to be seen on the bar."""
    colour, opacity = ("var(--paper,#fff)", "0.9") if inside else ("currentColor", "0.6")
    return svg.element(
        "rect", x=x, y=y, width=width, height=10, fill="none", stroke=colour, stroke_opacity=opacity, stroke_width="0.8"
    )
