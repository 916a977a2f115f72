"""The pictures of latency: boxes, distributions, ratios to dense, and what happens under load."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ntksap_export.report.cells import Setting, name_of, p50, prominence, pruned_of, ratio_of, series_of, spots
from ntksap_export.report.charts import figure
from ntksap_export.report.document import Figure
from ntksap_export.report.inputs import Json, ReportInput, at
from ntksap_export.report.plots import (
    Curve,
    Dot,
    Dots,
    Forest,
    Limit,
    Strip,
    forest_chart,
    linear,
    log,
    plot,
    strip_chart,
)
from ntksap_export.report.text import milliseconds, number

MOST_STEPS = 120
"""A distribution is drawn through so many of its times: raw times are thinned, their quantiles kept."""


def percentile(times: Sequence[float], share: float) -> float:
    """Of ascending values, between neighbours by their distance; `share` in [0, 1]."""
    place = share * (len(times) - 1)
    low = math.floor(place)
    high = min(low + 1, len(times) - 1)
    return times[low] + (times[high] - times[low]) * (place - low)


def overview(data: ReportInput) -> list[Figure | None]:
    """For each device and batch, since their scales differ: the latencies, and beside them the ratios to dense."""
    made: list[Figure | None] = []
    for (device, batch), here in _scales(data.profile).items():
        where = f"on {device} at batch {batch}"
        made += [_strips(data, here, where), _forest(data, here, where)]
    return made


def _scales(profile: Json) -> dict[tuple[str, int], dict[Setting, list[Json]]]:
    found: dict[tuple[str, int], dict[Setting, list[Json]]] = {}
    for spot, cells in spots(profile).items():
        found.setdefault((spot.device, spot.batch), {})[spot] = cells
    return found


def _strips(data: ReportInput, here: dict[Setting, list[Json]], where: str) -> Figure | None:
    groups = [(spot.spot_words, [_strip(cell, data) for cell in cells]) for spot, cells in here.items()]
    caption = f"Latency {where}. Thick mark and number p50, on the box of the middle half; thin marks p90 and p99."
    return figure(caption, strip_chart(groups, label=caption, axis="ms per run"))


def _strip(cell: Json, data: ReportInput) -> Strip:
    times = sorted(float(value) for value in at(cell, "times_ms", default=[]))
    middle, known = p50(cell) or 0.0, at(cell, "latency_ms", default={})
    low, high = _interval(cell)
    name = name_of(cell, pruned_of(data))
    words = ", ".join(f"{key} {milliseconds(value)}" for key, value in known.items() if key.startswith("p"))
    return Strip(
        name=name,
        text=number(middle),
        title=f"{name}: {words}",
        p50=middle,
        p90=_number(known.get("p90")),
        p99=_number(known.get("p99")),
        low=_number(known.get("min")),
        box=(percentile(times, 0.25), percentile(times, 0.75)) if len(times) >= 4 else None,
        interval=(low, high) if low is not None and high is not None else None,
        series=series_of(cell),
    )


def _interval(cell: Json) -> tuple[float | None, float | None]:
    ends = at(cell, "median_ci_ms") or [None, None]
    return _number(ends[0]), _number(ends[1])


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _forest(data: ReportInput, here: dict[Setting, list[Json]], where: str) -> Figure | None:
    groups = []
    for spot, cells in here.items():
        rows = [row for cell in cells if (row := _ratio_row(cell, data))]
        groups += [(spot.spot_words, rows)] if rows else []
    caption = f"Ratio of medians {where}: time / time of the baseline, with its 95 % interval; left of 1 is faster."
    return figure(caption, forest_chart(groups, label=caption, axis="times the baseline's p50"))


def _ratio_row(cell: Json, data: ReportInput) -> Forest | None:
    ratio = ratio_of(cell, data.profile)
    if ratio is None:
        return None
    name = name_of(cell, pruned_of(data))
    span = f" ({ratio.low:.3f} to {ratio.high:.3f})" if ratio.low is not None and ratio.high is not None else ""
    title = f"{name}: {ratio.value:.3f} times {ratio.baseline}{span}"
    return Forest(name, f"{ratio.value:.2f}", title, ratio.value, ratio.low, ratio.high, series_of(cell))


def distributions(data: ReportInput) -> list[Figure | None]:
    """Share of runs that were done by a time, one picture a spot, those a reader asks for first in front."""
    ordered = sorted(spots(data.profile).items(), key=lambda item: prominence(item[0]))
    return [_distribution(spot, cells, data) for spot, cells in ordered]


def _distribution(spot: Setting, cells: list[Json], data: ReportInput) -> Figure | None:
    known = [(cell, sorted(map(float, at(cell, "times_ms", default=[])))) for cell in cells]
    known = [(cell, times) for cell, times in known if len(times) >= 2]
    if not known:
        return None
    marks: list[Curve | Dots] = []
    for cell, times in known:
        marks.append(Curve(name_of(cell, pruned_of(data)), _steps(times), series_of(cell), dots=False))
        dots = tuple(_quantile_dot(times, share, name_of(cell, pruned_of(data))) for share in (0.5, 0.9, 0.99))
        marks.append(Dots("", dots, series_of(cell)))
    furthest = max(percentile(times, 0.99) for _, times in known)
    ends = [times[0] for _, times in known] + [furthest]
    caption = f"Distribution of single runs: {spot.backend}, {spot.device}, {spot.load}. Dots at p50, p90 and p99."
    x = log("ms per run", ends) if 0 < 8 * min(ends) < furthest else linear("ms per run", ends)
    y = linear("runs done by then, %", [0.0, 100.0])
    return figure(caption, plot(x, y, marks, label=caption))


def _steps(times: Sequence[float]) -> tuple[tuple[float, float], ...]:
    shares = [index / (MOST_STEPS - 1) for index in range(MOST_STEPS)] if len(times) > MOST_STEPS else []
    shares = shares or [index / (len(times) - 1) for index in range(len(times))]
    return tuple((percentile(times, share), 100 * share) for share in shares)


def _quantile_dot(times: Sequence[float], share: float, name: str) -> Dot:
    value = percentile(times, share)
    return Dot(value, 100 * share, f"{name}: p{100 * share:g} {milliseconds(value)}")


def under_load(data: ReportInput) -> list[Figure | None]:
    """Server mode: p99 and p50 against the rate that was offered."""
    made: list[Figure | None] = []
    limit = at(data.profile, "settings", "limit_ms")
    for spot, cells in spots(data.profile).items():
        served = [cell for cell in cells if at(cell, "server")]
        if served:
            made.append(_load(spot, served, data, limit))
    return made


def _load(spot: Setting, cells: list[Json], data: ReportInput, limit: float | None) -> Figure | None:
    curves = [Curve(name_of(cell, pruned_of(data)), _column(cell, "p99_ms"), series_of(cell)) for cell in cells]
    values = [value for curve in curves for _, value in curve.points]
    x = linear("images/s offered", [rate for curve in curves for rate, _ in curve.points], zero=True)
    top = min(max(values, default=0.0), 5 * float(limit)) if limit else max(values, default=0.0)
    y = linear("p99 latency, ms", [top, *([float(limit)] if limit else [])], zero=True)
    marks: list[Curve | Limit] = [
        *curves,
        *([Limit("y", float(limit), f"limit {milliseconds(limit)}")] if limit else []),
    ]
    caption = f"p99 under random arrivals: {spot.backend}, {spot.device}, {spot.load}."
    return figure(caption, plot(x, y, marks, label=caption))


def _column(cell: Json, key: str) -> tuple[tuple[float, float], ...]:
    rows: Callable[[Json], bool] = lambda row: at(row, "rate") is not None and at(row, key) is not None  # noqa: E731
    return tuple((float(row["rate"]), float(row[key])) for row in at(cell, "server", default=[]) if rows(row))
