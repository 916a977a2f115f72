"""Which point of a sweep to take: the fronts, the limits, and what to say where nothing meets them. From plain data."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from ntksap_export.errors import ConfigError
from ntksap_export.pareto import pareto_front

# Points are compared where all of this is the same.
PLACE: Final = ("backend", "device", "batch", "threads")


@dataclass(frozen=True, slots=True)
class Demands:
    """What a network must meet to be chosen; None asks nothing.

    Attributes:
        max_latency_ms: of the median.
        max_size_bytes: of the file that is delivered.
        min_accuracy: share of right answers on the validation images, in [0, 1].

    Raises:
        ConfigError: one is out of range.
    """

    max_latency_ms: float | None = None
    max_size_bytes: float | None = None
    min_accuracy: float | None = None

    def __post_init__(self) -> None:
        size_mb = None if self.max_size_bytes is None else self.max_size_bytes / 1e6
        for flag, unit, value in (("latency", "ms", self.max_latency_ms), ("size", "MB", size_mb)):
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"--max-{flag} must be above 0 {unit}; got {value:g}")
        least = self.min_accuracy
        if least is not None and not 0 <= least <= 1:
            hint = f". For {least:g} % write --min-accuracy {least / 100:g}" if 1 < least <= 100 else ""
            raise ConfigError(f"--min-accuracy must be in [0, 1]; got {least:g}{hint}")

    def __bool__(self) -> bool:
        return any(value is not None for value in asdict(self).values())

    def to_json(self) -> dict[str, float | None]:
        """As it stands in sweep.json."""
        return asdict(self)

    def missed(self, point: dict[str, Any]) -> dict[str, float]:
        """Words for each limit that a point misses, and by what share of it; an unknown value misses it without end."""
        found = {}
        for key, limit, words in (
            ("p50_ms", self.max_latency_ms, "--max-latency {:g} ms"),
            ("size_bytes", self.max_size_bytes, "--max-size {:g} MB"),
        ):
            value = point[key]
            if limit is not None and (value is None or value > limit):
                excess = math.inf if value is None else value / limit - 1
                found[words.format(limit / 1e6 if key == "size_bytes" else limit)] = excess
        least, accuracy = self.min_accuracy, point["accuracy"]
        if least is not None and (accuracy is None or accuracy < least):
            found[f"--min-accuracy {least:g}"] = math.inf if accuracy is None else 1 - accuracy / least
        return found


def mark_fronts_(cells: Sequence[dict[str, Any]]) -> None:
    """Set `on_front` of every point: no other of its place is as good in accuracy, latency and size, and better in one.

    Peak memory has a picture of its own and no say here: it differs by some pages from process to process, which would
    put nearly every point on the front.
    """
    places = defaultdict(list)
    for _, point in all_points(cells):
        places[tuple(point[key] for key in PLACE)].append(point)
    for points in places.values():
        costs = [
            (None if point["accuracy"] is None else -point["accuracy"], point["p50_ms"], point["size_bytes"])
            for point in points
        ]
        for point, on_front in zip(points, pareto_front(costs), strict=True):
            point["on_front"] = on_front


def choose(cells: Sequence[dict[str, Any]], demands: Demands) -> tuple[dict[str, Any] | None, str]:
    """The most accurate point that meets the demands; of equals the fastest, then the smallest; and a line on it.

    Returns:
        The point with the `dir` of its cell, or None: nothing was asked for, or nothing meets it.
    """
    if not demands:
        return None, "no limit was given, so no point is chosen (--max-latency, --max-size, --min-accuracy)"
    known = [(cell, point) for cell, point in all_points(cells) if None not in _values(point)]
    if not known:
        return None, "no point meets the limits: none was measured"
    meeting = [(cell, point) for cell, point in known if not demands.missed(point)]
    if meeting:
        cell, point = min(meeting, key=lambda pair: (-pair[1]["accuracy"], pair[1]["p50_ms"], pair[1]["size_bytes"]))
        return {"dir": cell["dir"], **point}, f"chosen: {point_text(cell, point)}"
    cell, point = min(known, key=lambda pair: _distance(demands.missed(pair[1])))
    missed = " and ".join(f"{words} by {share:.1%}" for words, share in demands.missed(point).items())
    return None, f"no point meets the limits; nearest is {point_text(cell, point)}, which misses {missed}"


def point_text(cell: dict[str, Any], point: dict[str, Any]) -> str:
    """A point in words: which network, where, and its numbers."""
    return (
        f"{cell['dir']} {graph_text(point)} in {point['backend']} on {point['device']} (batch {point['batch']}, "
        f"threads {point['threads']}): accuracy {point['accuracy']:.2%}, p50 {point['p50_ms']:.3g} ms, "
        f"{point['size_bytes'] / 1e6:.3g} MB"
    )


def graph_text(point: dict[str, Any]) -> str:
    """Which graph of a network: its precision, or that it runs in the sparse engine."""
    return "engine" if point.get("variant") == "engine" else str(point["precision"])


def all_points(cells: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every point with its cell."""
    return ((cell, point) for cell in cells for point in cell.get("points", ()))


def _distance(missed: dict[str, float]) -> tuple[int, float]:
    """Fewer limits missed are nearer, then what misses its worst one by less."""
    return len(missed), max(missed.values())


def _values(point: dict[str, Any]) -> tuple[float | None, ...]:
    return (point["accuracy"], point["p50_ms"], point["size_bytes"])
