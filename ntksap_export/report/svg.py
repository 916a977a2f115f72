"""Charts as inline SVG: pure functions from numbers to markup, without a library.

All charts are 440 units wide and scale with their box, so that text stays readable from 370 to 560 pixels.
Text and lines follow `currentColor`; the two series take the CSS variables `--first` and `--second`, and
differ in form too (dashes, words beside the bars), so that colour is never the only sign.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape as html_escape

WIDTH = 440.0
FILLS = ("var(--first,#b85c00)", "var(--second,#0067a8)")
CHARACTER = 0.56
"""Mean width of a character / font size; for cutting labels, not for layout to the pixel."""

_NOT_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

Format = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Line:
    """One series of a line chart; points are (x, y), those that are not finite are left out."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; `series` 0 or 1 picks the colour, `whiskers` are more values on the same axis (p90, p99)."""

    name: str
    value: float
    text: str
    series: int = 1
    whiskers: tuple[float, ...] = ()


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


def escape(text: str) -> str:
    """Text that is safe in content and attributes of HTML and of XML."""
    return html_escape(_NOT_XML.sub("�", text), quote=True)


def element(tag: str, content: str = "", /, **attributes: str | float) -> str:
    """One element. `content` is markup; attribute values are escaped, `_` in their names becomes `-`."""
    pairs = "".join(f' {key.rstrip("_").replace("_", "-")}="{_value(v)}"' for key, v in attributes.items())
    return f"<{tag}{pairs}>{content}</{tag}>" if content else f"<{tag}{pairs}/>"


def _value(value: str | float) -> str:
    return escape(value) if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


def text(x: float, y: float, words: str, **attributes: str | float) -> str:
    return element("text", escape(words), x=x, y=y, **attributes)


def rule(x1: float, y1: float, x2: float, y2: float, opacity: float, **attributes: str | float) -> str:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke="currentColor", stroke_opacity=opacity, **attributes)


def shorten(words: str, characters: int) -> str:
    """Cut from the front, since the end of a layer's name tells it apart."""
    return words if len(words) <= characters else "…" + words[len(words) - characters + 1 :]


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


def chart(height: float, label: str, parts: Sequence[str]) -> str:
    """The outer element: scales to its box, read out as `label`."""
    return element(
        "svg",
        "".join(parts),
        viewBox=f"0 0 {WIDTH:.0f} {height:.0f}",
        role="img",
        aria_label=label,
        fill="currentColor",
        font_size=12,
        class_="chart",
    )


def line_chart(lines: Sequence[Line], *, label: str, x_name: str, y_name: str, y_format: Format) -> str:
    """Two lines at most over a shared x axis of whole numbers; empty when there is nothing to draw."""
    lines = [Line(s.name, tuple(p for p in s.points if math.isfinite(p[0] + p[1]))) for s in lines]
    xs = [x for s in lines for x, _ in s.points]
    ys = [y for s in lines for _, y in s.points]
    if not xs:
        return ""
    height, left, right, top, bottom = 250.0, 46.0, WIDTH - 12, 34.0, 208.0
    y_ticks = nice_ticks(min(ys), max(ys))
    x_ticks = [tick for tick in nice_ticks(min(xs), max(xs), 6, whole=True) if min(xs) <= tick <= max(xs)]
    x_span = max(xs) - min(xs)

    def to_x(x: float) -> float:
        return left + 8 + (right - left - 16) * ((x - min(xs)) / x_span if x_span else 0.5)

    def to_y(y: float) -> float:
        return bottom - (bottom - top) * (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])

    parts = [text(0, 12, y_name, fill_opacity=0.75)]
    for y in y_ticks:
        parts.append(rule(left, to_y(y), right, to_y(y), 0.15))
        parts.append(text(left - 6, to_y(y) + 4, y_format(y), text_anchor="end", font_size=11))
    for x in x_ticks:
        parts.append(rule(to_x(x), bottom, to_x(x), bottom + 4, 0.5))
        parts.append(text(to_x(x), bottom + 17, f"{x:.0f}", text_anchor="middle", font_size=11))
    parts.append(rule(left, bottom, right, bottom, 0.5))
    parts.append(text((left + right) / 2, height - 8, x_name, text_anchor="middle", fill_opacity=0.75))
    for index, series in enumerate(lines):
        parts.append(_polyline([(to_x(x), to_y(y)) for x, y in series.points], index, series.name))
    return chart(height, label, [*parts, _legend([s.name for s in lines], right)])


def _polyline(points: Sequence[tuple[float, float]], index: int, name: str) -> str:
    colour, dash = FILLS[index % 2], "5 3" if index % 2 == 0 else "none"
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    line = element("polyline", points=path, fill="none", stroke=colour, stroke_width=2, stroke_dasharray=dash)
    marks = [element("circle", cx=x, cy=y, r=2.8, fill=colour) for x, y in points if len(points) <= 30]
    return element("g", f"<title>{escape(name)}</title>{line}{''.join(marks)}")


def _legend(names: Sequence[str], right: float) -> str:
    parts, x = [], right
    for index, name in reversed(list(enumerate(names))):
        x -= len(name) * 12 * CHARACTER
        parts.append(text(x, 12, name))
        dash = "5 3" if index % 2 == 0 else "none"
        stroke: dict[str, str | float] = {
            "stroke": FILLS[index % 2],
            "stroke_width": 2.5,
            "stroke_dasharray": dash,
        }
        parts.append(element("line", x1=x - 28, y1=8, x2=x - 6, y2=8, **stroke))
        x -= 44
    return "".join(parts)


def bar_chart(groups: Sequence[Group], *, label: str, axis: str, tick_format: Format) -> str:
    """Horizontal bars from zero, grouped under headings, with the value in words behind each."""
    bars = [bar for group in groups for bar in group.bars]
    if not bars:
        return ""
    left = 6 + max(len(bar.name) for bar in bars) * 11 * CHARACTER
    right = WIDTH - 12 - max(len(bar.text) for bar in bars) * 11 * CHARACTER
    ticks = nice_ticks(0, max(0.0, *(v for bar in bars for v in (bar.value, *bar.whiskers))) or 1, 4)
    scale = (right - left) / ticks[-1]
    bottom = sum(24 + 17 * len(group.bars) for group in groups) + 2.0
    parts = []
    for tick in ticks:
        x = left + tick * scale
        parts.append(rule(x, 20, x, bottom, 0.5 if tick == 0 else 0.12))
        parts.append(text(x, bottom + 15, tick_format(tick), text_anchor="middle", font_size=11))
    y = 0.0
    for group in groups:
        parts.append(text(0, y + 15, shorten(group.name, 64), font_weight="600", class_="halo"))
        y += 21
        for bar in group.bars:
            parts.append(_bar(bar, left, y, scale))
            y += 17
        y += 3
    parts.append(text((left + right) / 2, bottom + 33, axis, text_anchor="middle", fill_opacity=0.75))
    return chart(bottom + 42, label, parts)


def _bar(bar: Bar, left: float, y: float, scale: float) -> str:
    colour, middle = FILLS[bar.series % 2], y + 7
    end = left + max(bar.value, 0) * scale
    parts = [
        text(left - 6, y + 11, bar.name, text_anchor="end", font_size=11),
        element("rect", x=left, y=y, width=max(end - left, 0.5), height=13, fill=colour),
    ]
    far = left + max((0.0, bar.value, *bar.whiskers)) * scale
    if bar.whiskers:
        parts.append(rule(end, middle, far, middle, 0.8))
        for index, value in enumerate(bar.whiskers):
            half, x = 2.5 + 2.0 * index, left + value * scale
            parts.append(rule(x, middle - half, x, middle + half, 0.8))
    parts.append(text(far + 5, y + 11, bar.text, font_size=11, class_="halo"))
    return element("g", "".join(parts))


def row_chart(rows: Sequence[Row], *, label: str, tick_format: Format) -> str:
    """Many thin rows with an outline each; long names are cut from the front and stand whole in the title."""
    if not rows:
        return ""
    longest = min(24, max(len(row.name) for row in rows))
    left, right, top, pitch = 8 + longest * 10 * CHARACTER, WIDTH - 44, 20.0, 14.0
    ticks = nice_ticks(0, max(max(row.value, row.outline) for row in rows) or 1)
    scale, bottom = (right - left) / ticks[-1], top + pitch * len(rows)
    parts = []
    for tick in ticks:
        x = left + tick * scale
        parts.append(rule(x, top - 3, x, bottom, 0.5 if tick == 0 else 0.12))
        parts.append(text(x, top - 8, tick_format(tick), text_anchor="middle", font_size=10))
    for index, row in enumerate(rows):
        y = top + pitch * index + 2
        inside = [
            f"<title>{escape(row.title)}</title>",
            text(left - 5, y + 8.5, shorten(row.name, longest), text_anchor="end"),
            element("rect", x=left, y=y, width=max(0.0, row.value * scale), height=10, fill=FILLS[1]),
            _outline(left, y, row.outline * scale, inside=row.value > row.outline),
            text(WIDTH, y + 8.5, row.text, text_anchor="end"),
        ]
        parts.append(element("g", "".join(inside), font_size=10))
    return chart(bottom + 4, label, parts)


def _outline(x: float, y: float, width: float, *, inside: bool) -> str:
    """An outline that the filled bar covers is drawn in the colour of the page, to be seen on the bar."""
    colour, opacity = ("var(--paper,#fff)", 0.85) if inside else ("currentColor", 0.45)
    pen: dict[str, str | float] = {"stroke": colour, "stroke_opacity": opacity, "stroke_width": 0.8}
    return element("rect", x=x, y=y, width=width, height=10, fill="none", **pen)
