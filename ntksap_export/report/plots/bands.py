"""Rows of marks along one axis, under headings: the layout that bars, distributions and ratios share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ntksap_export.report.plots import svg
from ntksap_export.report.plots.axes import Axis

Place = Callable[[float], float]
"""From a value of the axis to x in the picture; values beyond the axis stop at its ends."""

_HEADING, _PITCH, _GAP = 22.0, 18.0, 4.0
_MOST_NAME, _MOST_HEADING = 18, 58


@dataclass(frozen=True, slots=True)
class Band:
    """One row: its name at the left, its number at the right, between them what `draw` makes of (place, middle)."""

    name: str
    text: str
    title: str
    draw: Callable[[Place, float], Sequence[str]]


def banded(groups: Sequence[tuple[str, Sequence[Band]]], axis: Axis | None, *, label: str) -> str:
    """A picture of groups of bands, the axis below; a group without a heading has none. Empty without a band."""
    bands = [band for _, group in groups for band in group]
    if not bands or axis is None:
        return ""
    longest = min(_MOST_NAME, max(len(band.name) for band in bands))
    left = (8 + svg.width_of("x" * longest)) if longest else 4.0
    right = svg.WIDTH - 10 - max(svg.width_of(band.text) for band in bands)
    bottom = sum((_HEADING if heading else 6.0) + _PITCH * len(group) + _GAP for heading, group in groups)

    def place(value: float) -> float:
        return left + (right - left) * min(1.0, max(0.0, axis.share(value)))

    parts = _grid(axis, place, bottom)
    y = 0.0
    for heading, group in groups:
        if heading:
            parts.append(svg.text(0, y + 15, svg.shorten(heading, _MOST_HEADING), font_weight="600", class_="halo"))
        y += _HEADING if heading else 6.0
        for band in group:
            parts.append(_band(band, place, left, y))
            y += _PITCH
        y += _GAP
    parts.append(svg.text((left + right) / 2, bottom + 32, axis.name, text_anchor="middle", fill_opacity="0.8"))
    return svg.chart(bottom + 40, label, parts)


def _grid(axis: Axis, place: Place, bottom: float) -> list[str]:
    parts, before = [], -1e9
    for tick in axis.ticks:
        x, half = place(tick), svg.width_of(axis.format(tick), 10.5) / 2
        parts.append(svg.rule(x, 20, x, bottom, 0.5 if tick == 0 else 0.14))
        if x - half > before + 5 and x + half <= svg.WIDTH:
            parts.append(svg.text(x, bottom + 14, axis.format(tick), text_anchor="middle", font_size=10.5))
            before = x + half
    return parts


def _band(band: Band, place: Place, left: float, y: float) -> str:
    middle = y + 7
    return svg.group(
        band.title,
        svg.text(left - 6, middle + 4, svg.shorten(band.name, _MOST_NAME), text_anchor="end"),
        *band.draw(place, middle),
        svg.text(svg.WIDTH, middle + 4, band.text, text_anchor="end", class_="halo"),
    )
