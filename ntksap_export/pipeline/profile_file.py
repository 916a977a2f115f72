"""profile.json read back, whoever wrote it: its cells as checked numbers with their intervals, schema 1 and 2."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeGuard

import numpy as np
import numpy.typing as npt

from ntksap_export.checkpoint.json_file import json_object
from ntksap_export.errors import CheckpointError
from ntksap_export.profiling.statistics import MIN_TURNS, median_interval
from ntksap_export.quoting import naming, printable, shown

SCHEMAS: Final = (1, 2)
_QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
_MEMORY: Final = {"load_delta": "load_delta_bytes", "run_peak": "run_peak_rss_bytes"}
_Z: Final = 1.959964  # of the standard normal, for 95 %
_LONGEST: Final = 80  # characters of a name out of a file


class Key(NamedTuple):
    """What makes two cells of two profiles the same one."""

    variant: str
    backend: str
    device: str
    precision: str
    batch: int
    threads: int
    streams: int

    def __str__(self) -> str:
        streams = "" if self.streams == 1 else f", {self.streams} streams"
        precision = "" if self.precision == "fp32" else f" {self.precision}"
        return (
            f"{self.variant}{precision} in {self.backend} on {self.device}, batch {self.batch}, "
            f"{self.threads} thread{'' if self.threads == 1 else 's'}{streams}"
        )


@dataclass(frozen=True, slots=True)
class Value:
    """A number above 0 and its 95 % interval; without a known error all three are the same."""

    point: float
    low: float
    high: float

    def over(self, other: Value) -> Value:
        """The ratio self / other, its interval by the method of variance estimates recovery on logarithms.

        Zou & Donner 2008: each half width is the root of the sum of squares of the two that go into it.
        """
        point = self.point / other.point
        down = math.hypot(math.log(self.point / self.low), math.log(other.high / other.point))
        up = math.hypot(math.log(self.high / self.point), math.log(other.point / other.low))
        return Value(point, point * math.exp(-down), point * math.exp(up))


@dataclass(frozen=True, slots=True)
class _Times:
    """Raw times in milliseconds, and the number of the turn that each belongs to."""

    ms: npt.NDArray[np.float64]
    turn_of: npt.NDArray[np.int64]

    def spread(self, of: Callable[[npt.NDArray[np.float64]], float]) -> tuple[float, float]:
        """The interval of a statistic over the turns as shares of its middle; (1, 1) where they are too few."""
        found = [of(self.ms[self.turn_of == turn]) for turn in np.unique(self.turn_of)]
        if len(found) < MIN_TURNS:
            return 1.0, 1.0
        low, high, _ = median_interval(found)
        middle = float(np.median(found))
        return min(low / middle, 1.0), max(high / middle, 1.0)


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile.json.

    Attributes:
        cells: the measured ones; per metric of `conditions.METRICS` that is known, its value.
        skipped: the others that name a batch and threads, with their reasons.
        environment: as it stands there.
    """

    cells: Mapping[Key, Mapping[str, Value]]
    skipped: Mapping[Key, str]
    environment: Mapping[str, Any]


def read_profile(path: Path) -> Profile:
    """Read a profile.json, or the one of a run directory.

    Raises:
        CheckpointError: it is missing, no JSON, larger than a profile can be, or not what `ntksap profile` writes.
    """
    file = path / "profile.json" if path.is_dir() else path
    with naming(f"'{file}'"):
        value = json_object(file)
        if value.get("schema") not in SCHEMAS or isinstance(value["schema"], bool):
            raise CheckpointError(
                f"is no profile of ntksap that this version knows: its schema is {shown(value.get('schema'))}"
            )
        rows, environment = value.get("cells"), value.get("environment")
        if not isinstance(rows, list) or not isinstance(environment, dict):
            raise CheckpointError("is no profile of ntksap: it needs `cells`, a list, and `environment`, an object")
        cells: dict[Key, Mapping[str, Value]] = {}
        skipped: dict[Key, str] = {}
        for place, row in enumerate(rows):
            with naming(f"cell {place}"):
                _take(row, cells, skipped)
    return Profile(cells, skipped, environment)


def _take(row: Any, cells: dict[Key, Mapping[str, Value]], skipped: dict[Key, str]) -> None:
    if not isinstance(row, dict) or row.get("status") not in ("measured", "skipped"):
        raise CheckpointError("is neither measured nor skipped")
    if row["status"] == "skipped" and None in (row.get("batch"), row.get("threads")):
        return  # a backend that is not there at all
    key = _key(row)
    if key in cells or key in skipped:
        raise CheckpointError(f"is there twice: {key}")
    if row["status"] == "skipped":
        reason = row.get("reason")
        skipped[key] = printable(reason[:200]) if isinstance(reason, str) else "no reason given"
    else:
        cells[key] = _values(row)


def _key(row: Mapping[str, Any]) -> Key:
    names = [row.get("variant"), row.get("backend"), row.get("device"), row.get("precision") or "fp32"]
    if not all(isinstance(name, str) and name for name in names):
        raise CheckpointError("does not say its variant, backend, device and precision")
    batch, threads, streams = row.get("batch"), row.get("threads"), row.get("streams") or 1
    if not (_is_count(batch) and _is_count(threads) and _is_count(streams)):
        raise CheckpointError("does not say its batch, threads and streams")
    variant, backend, device, precision = (printable(str(name)[:_LONGEST]) for name in names)
    return Key(variant, backend, device, precision, batch, threads, streams)


def _values(row: Mapping[str, Any]) -> dict[str, Value]:
    latency, memory = _object(row, "latency_ms"), _object(row, "memory")
    times = _times(row)
    values: dict[str, Value] = {}
    if (median := _median(row, latency, times)) is None:
        raise CheckpointError("was measured and has no median above 0")
    values["p50"] = median
    for name, share in _QUANTILES.items():
        point = _number(latency.get(name)) or (None if times is None else float(np.quantile(times.ms, share)))
        if name != "p50" and point is not None:
            values[name] = _like(median, point) if times is None else _interval(times, share, point)
    if (mean := _number(latency.get("mean"))) is not None:
        values["mean"] = _like(median, mean) if times is None else _of_mean(times, mean)
    if (throughput := _number(row.get("throughput_images_per_s"))) is not None:
        values["throughput"] = Value(
            throughput, throughput * median.point / median.high, throughput * median.point / median.low
        )
    exact = {name: memory.get(key) for name, key in _MEMORY.items()} | {"file_size": row.get("file_bytes")}
    for name, found in exact.items():
        if (number := _number(found)) is not None:
            values[name] = Value(number, number, number)
    return values


def _median(row: Mapping[str, Any], latency: Mapping[str, Any], times: _Times | None) -> Value | None:
    point = _number(latency.get("p50")) or (None if times is None else float(np.median(times.ms)))
    if point is None:
        return None
    told = row.get("median_ci_ms")
    if isinstance(told, list) and len(told) == 2:
        low, high = map(_number, told)
        if low is not None and high is not None and low <= high:
            return Value(point, min(low, point), max(high, point))
    return Value(point, point, point) if times is None else _interval(times, 0.5, point)


def _like(median: Value, point: float) -> Value:
    """Without raw times the median's relative interval stands in: of any other statistic it is the least."""
    return Value(point, point * median.low / median.point, point * median.high / median.point)


def _interval(times: _Times, share: float, point: float) -> Value:
    """Of a quantile: the wider of what single runs say, and what turns say, which share a state of the machine.

    Of runs, by order statistics: the ranks n q -+ z sqrt(n q (1 - q)), whatever the distribution.
    """
    ordered, count = np.sort(times.ms), len(times.ms)
    reach = _Z * math.sqrt(count * share * (1 - share))
    low = float(ordered[max(0, math.floor(count * share - reach))])
    high = float(ordered[min(count - 1, math.ceil(count * share + reach))])
    down, up = times.spread(lambda part: float(np.quantile(part, share)))
    return Value(point, min(low, point * down), max(high, point * up))


def _of_mean(times: _Times, mean: float) -> Value:
    reach = _Z * float(times.ms.std()) / math.sqrt(len(times.ms))
    down, up = times.spread(lambda part: float(part.mean()))
    return Value(mean, min(max(mean - reach, float(times.ms.min())), mean * down), max(mean + reach, mean * up))


def _times(row: Mapping[str, Any]) -> _Times | None:
    told, turns = row.get("times_ms"), row.get("slice_of")
    if not isinstance(told, list) or len(told) < 2:
        return None
    if not all(_number(value) is not None for value in told):
        raise CheckpointError("has times that are no numbers above 0")
    known = isinstance(turns, list) and len(turns) == len(told) and all(turn == 0 or _is_count(turn) for turn in turns)
    return _Times(np.asarray(told, np.float64), np.asarray(turns if known else [0] * len(told), np.int64))


def _object(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = row.get(name) or {}
    if not isinstance(value, dict):
        raise CheckpointError(f"has a {name} that is no object")
    return value


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def _number(value: Any) -> float | None:
    """A finite number above 0, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if 0 < number < math.inf else None
