"""Curves and dots over two axes: learning curves, distributions, trade-offs, rooflines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ntksap_export.report.plots import svg
from ntksap_export.report.plots.axes import Axis, Frame, Key, framed

MOST_MARKS = 30
"""A curve of more points has no dot at each."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through (x, y) in order; those that are not finite or outside are left out. Without a name: no legend."""

    name: str
    points: tuple[tuple[float, float], ...]
    series: int = 0
    dots: bool = True
    dash: str | None = None


@dataclass(frozen=True, slots=True)
class Dot:
    """One dot; `title` is what it says of itself, `label` a word beside it, `ring` marks it out, `spread` is on x."""

    x: float
    y: float
    title: str
    label: str = ""
    ring: bool = False
    spread: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Dots:
    """Dots of one colour and one form; hollow ones leave what is behind them to be seen."""

    name: str
    dots: tuple[Dot, ...]
    series: int = 0
    shape: int = 0
    hollow: bool = False


@dataclass(frozen=True, slots=True)
class Limit:
    """A straight line across the plot at a value of one axis, with words along it."""

    axis: str
    value: float
    words: str


Mark = Curve | Dots | Limit


def plot(
    x: Axis | None,
    y: Axis | None,
    marks: Sequence[Mark],
    *,
    label: str,
    height: float = 170,
    legend: Sequence[Key] | None = None,
) -> str:
    """A picture of all marks, the later ones above; empty when there is no axis or nothing to draw.

    Args:
        x: the horizontal scale.
        y: the vertical scale.
        marks: curves, dots and limits.
        label: read out for the picture.
        height: of the plot itself.
        legend: in place of the one that the names of the marks give.
    """
    drawn = [mark for mark in marks if isinstance(mark, Limit) or _has_points(mark)]
    if x is None or y is None or all(isinstance(mark, Limit) for mark in drawn):
        return ""
    keys = _legend(drawn) if legend is None else legend
    return framed(x, y, keys, label, lambda frame: _draw(frame, drawn), height)


def _legend(marks: Sequence[Mark]) -> list[Key]:
    keys: dict[tuple[str, int, int | None], Key] = {}
    for mark in marks:
        if isinstance(mark, Curve | Dots) and mark.name:
            shape = mark.shape if isinstance(mark, Dots) else None
            dash = mark.dash if isinstance(mark, Curve) else None
            keys.setdefault((mark.name, mark.series, shape), Key(mark.name, mark.series, shape, dash))
    return list(keys.values())


def _has_points(mark: Curve | Dots) -> bool:
    return bool(mark.points if isinstance(mark, Curve) else mark.dots)


def _draw(frame: Frame, marks: Sequence[Mark]) -> list[str]:
    parts: list[str] = []
    shown = [dot for mark in marks if isinstance(mark, Dots) for dot in mark.dots if _visible(frame, dot.x, dot.y)]
    words = _Words(frame, shown)
    limits: list[str] = []
    for mark in marks:
        if isinstance(mark, Curve):
            parts.append(_curve(frame, mark))
        elif isinstance(mark, Limit):
            limits += _limit(frame, mark, words)
        else:
            parts += [_dot(frame, dot, mark) for dot in mark.dots if _visible(frame, dot.x, dot.y)]
    for dot in sorted((dot for dot in shown if dot.label), key=lambda dot: not dot.ring):
        parts += words.place(dot)
    return parts + limits


def _visible(frame: Frame, x: float, y: float) -> bool:
    if not (math.isfinite(x) and math.isfinite(y)) or (frame.x.log and x <= 0) or (frame.y.log and y <= 0):
        return False
    return frame.inside(x, y)


def _curve(frame: Frame, curve: Curve) -> str:
    places = [(frame.to_x(x), frame.to_y(y)) for x, y in curve.points if _visible(frame, x, y)]
    colour = svg.colour(curve.series)
    line = svg.path(places, curve.series, stroke_dasharray=curve.dash or svg.dash(curve.series))
    few = (curve.dots and len(places) <= MOST_MARKS) or len(places) == 1
    dots = [svg.mark(0, x, y, 2.6, fill=colour) for x, y in places] if few else []
    return svg.group(curve.name, line, *dots)


def _dot(frame: Frame, dot: Dot, of: Dots) -> str:
    x, y = frame.to_x(dot.x), frame.to_y(dot.y)
    parts = []
    if dot.spread and all(_visible(frame, end, dot.y) for end in dot.spread):
        low, high = (frame.to_x(end) for end in dot.spread)
        parts.append(svg.rule(low, y, high, y, 0.5))
    if dot.ring:
        parts.append(svg.element("circle", cx=x, cy=y, r=9, fill="none", stroke="currentColor", stroke_width=2))
    colour = svg.colour(of.series)
    pen: dict[str, svg.Value] = (
        {"fill": "none", "stroke": colour, "stroke_width": "1.4"}
        if of.hollow
        else {"fill": colour, "fill_opacity": "0.85", "stroke": "var(--paper,#fff)"}
    )
    parts.append(svg.mark(of.shape, x, y, 3.8, **pen))
    return svg.group(dot.title, *parts)


def _limit(frame: Frame, limit: Limit, words: _Words) -> list[str]:
    pen: dict[str, svg.Value] = {"stroke_dasharray": "3 3"}
    if limit.axis == "x" and 0 <= frame.x.share(limit.value) <= 1:
        x, length = frame.to_x(limit.value), svg.width_of(limit.words, 10)
        left = x + 4 + length > frame.right
        start = x - 4 - length if left else x + 4
        side: dict[str, svg.Value] = {"text_anchor": "end" if left else "start", "font_size": 10, "class_": "halo"}
        return [
            svg.rule(x, frame.top, x, frame.bottom, 0.7, **pen),
            svg.text(x + (-4 if left else 4), words.height_for(start, length), limit.words, **side),
        ]
    if limit.axis == "y" and 0 <= frame.y.share(limit.value) <= 1:
        y = frame.to_y(limit.value)
        return [
            svg.rule(frame.left, y, frame.right, y, 0.7, **pen),
            svg.text(frame.right, y - 4, limit.words, text_anchor="end", font_size=10, class_="halo"),
        ]
    return []


class _Words:
    """Places labels beside their dots, and leaves out those that would lie upon another, a dot or a limit's words."""

    def __init__(self, frame: Frame, dots: Sequence[Dot]) -> None:
        self.frame = frame
        self.taken = [_box_of(frame, dot) for dot in dots]

    def height_for(self, left: float, length: float) -> float:
        """The highest line on which words from `left` lie on nothing; the top one where there is none."""
        steps = int((self.frame.bottom - self.frame.top) // 12)
        lines = [self.frame.top + 9 + 12 * step for step in range(max(steps, 1))]
        boxes = [(left, base - 9, left + length, base + 2) for base in lines]
        box = next((box for box in boxes if not any(_overlap(box, other) for other in self.taken)), boxes[0])
        self.taken.append(box)
        return box[3] - 2

    def place(self, dot: Dot) -> list[str]:
        x, y = self.frame.to_x(dot.x), self.frame.to_y(dot.y)
        length, gap = svg.width_of(dot.label, 10), 11 if dot.ring else 7
        sides = (
            (x + gap - 1, y - gap + 2),
            (x + gap, y + 3.5),
            (x - gap - length, y + 3.5),
            (x - length / 2, y - gap),
            (x - length / 2, y + gap + 7),
        )
        for left, base in sides:
            box = (left, base - 9, left + length, base + 2)
            inside = box[0] >= self.frame.left and box[2] <= svg.WIDTH and box[1] >= self.frame.top - 6
            if inside and box[3] <= self.frame.bottom and not any(_overlap(box, other) for other in self.taken):
                self.taken.append(box)
                return [svg.text(left, base, dot.label, font_size=10, class_="halo")]
        return []


def _box_of(frame: Frame, dot: Dot) -> tuple[float, float, float, float]:
    x, y, half = frame.to_x(dot.x), frame.to_y(dot.y), 9 if dot.ring else 4
    return (x - half, y - half, x + half, y + half)


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
