"""Accuracy against a cost, as dots with their Pareto front: which points nothing else beats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ntksap_export.pareto import pareto_front
from ntksap_export.report.document import Figure
from ntksap_export.report.plots import Curve, Dot, Dots, Key, Limit, linear, log, plot
from ntksap_export.report.text import percent

_FRONT_SERIES = 7


@dataclass(frozen=True, slots=True)
class Measure:
    """A cost: its key among a point's costs, the name of its axis with unit, the factor to that unit, and its words."""

    name: str
    axis: str
    scale: float
    form: Callable[[float | None], str]


@dataclass(frozen=True, slots=True)
class Point:
    """One network as it was measured somewhere; what is not known is None, and the point then not drawn.

    Attributes:
        series: names its colour.
        shape: names its form.
        label: a word beside it, if it is on the front.
        title: what it says of itself.
        accuracy: a fraction.
        costs: by the name of a `Measure`.
        spread: of the latency, in ms.
        chosen: gets a ring.
        facts: anything else, for tables.
    """

    series: str
    shape: str
    label: str
    title: str
    accuracy: float | None
    costs: dict[str, float | None]
    spread: tuple[float, float] | None = None
    chosen: bool = False
    facts: dict[str, Any] = field(default_factory=dict)


def tradeoff(
    points: Sequence[Point],
    measure: Measure,
    *,
    where: str,
    limit: float | None = None,
    floor: float | None = None,
    series: Sequence[str] = (),
) -> Figure | None:
    """The picture of one cost at one place; None where no point has both numbers.

    Args:
        points: of one place.
        measure: the cost on x; logarithmic where it spans more than tenfold.
        where: backend, device, batch and threads, in words; may be empty.
        limit: the most that the cost may be.
        floor: the least that the accuracy may be, a fraction.
        series: every name of a series in the order of their colours, so that pictures of a page agree; default: those
            of the points, as they come.
    """
    known = [point for point in points if point.accuracy is not None and point.costs.get(measure.name) is not None]
    if not known:
        return None
    costs = [measure.scale * float(point.costs[measure.name] or 0.0) for point in known]
    ends = [*costs, *([] if limit is None else [measure.scale * limit])]
    heights = [100 * float(point.accuracy or 0.0) for point in known]
    wide = min(ends) > 0 and max(ends) / min(ends) > 10
    x = log(measure.axis, ends) if wide else linear(measure.axis, ends, zero=True)
    y = linear("top-1 accuracy, %", [*heights, *([] if floor is None else [100 * floor])])
    front = pareto(list(zip(costs, heights, strict=True)))
    stairs = _stairs([(costs[place], heights[place]) for place in front])
    marks: list[Curve | Dots | Limit] = [Curve("front", stairs, _FRONT_SERIES, dots=False, dash="none")]
    colours = _ranks([*series, *(point.series for point in known)], {point.series for point in known})
    shapes = _ranks(["fp32", *(point.shape for point in known)], {point.shape for point in known})
    spread = measure.name == "latency"
    for place, point in enumerate(known):
        label = point.label if place in front or point.chosen else ""
        dot = Dot(costs[place], heights[place], point.title, label, point.chosen, point.spread if spread else None)
        marks.append(Dots("", (dot,), colours[point.series], shapes[point.shape]))
    if limit is not None:
        marks.append(Limit("x", measure.scale * limit, f"at most {measure.form(limit)}"))
    if floor is not None:
        marks.append(Limit("y", 100 * floor, f"at least {percent(floor)}"))
    name = measure.axis.partition(",")[0]
    caption = f"Accuracy against {name}{f': {where}' if where else ''}."
    return Figure(caption, plot(x, y, marks, label=caption, height=190, legend=_legend(colours, shapes)))


def _legend(colours: dict[str, int], shapes: dict[str, int]) -> list[Key]:
    """Colours and forms apart: their products would fill the picture."""
    forms = [Key(name, None, place) for name, place in shapes.items()] if len(shapes) > 1 else []
    return [
        *(Key(name, place, 0) for name, place in colours.items()),
        *forms,
        Key("front", _FRONT_SERIES, None, "none"),
    ]


def _ranks(names: Sequence[str], used: set[str]) -> dict[str, int]:
    """The place of each used name among all of them."""
    return {name: place for place, name in enumerate(dict.fromkeys(names)) if name in used}


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the points (cost, gain) that no other beats: none is as cheap and better, or cheaper and as good.

    In order of cost; of equal points the first.
    """
    on_front = pareto_front([(cost, -gain) for cost, gain in points])
    first = {points[place]: place for place in reversed(range(len(points))) if on_front[place]}
    return [first[point] for point in sorted(first)]


def _stairs(front: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """The edge of what is reached: for each cost the best gain so far."""
    corners: list[tuple[float, float]] = []
    for x, y in front:
        if corners:
            corners.append((x, corners[-1][1]))
        corners.append((x, y))
    return tuple(corners)
