"""What the tables of engine.py are made of: looking rows up, and numbers as text. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def of(rows: Sequence[Row], kind: str) -> list[Row]:
    return [row for row in rows if row["kind"] == kind]


def one(rows: Sequence[Row], kind: str) -> Row:
    return of(rows, kind)[0]


def measured(rows: Sequence[Row]) -> list[Row]:
    return [row for row in of(rows, "network") if "skipped" not in row]


def cases(rows: Sequence[Row]) -> list[tuple[Row, int]]:
    batches = dict.fromkeys(row["batch"] for row in of(rows, "cell") if row["batch"] is not None)
    return [(row, batch) for row in measured(rows) for batch in batches]


def cell_of(rows: Sequence[Row], network: str, runtime: str, batch: int) -> Row | None:
    """A cell that was measured, or None."""
    wanted = (network, runtime, batch, "measured")
    keys = ("network", "runtime", "batch", "status")
    return next((row for row in of(rows, "cell") if tuple(row[key] for key in keys) == wanted), None)


def named(row: Row) -> list[str]:
    """Network and mask."""
    return [f"{row['model'].removeprefix('torchvision:')} {row['size']}", row["mask"]]


def label(rows: Sequence[Row], network: str) -> str:
    """The same in one, in a sentence."""
    return next((", ".join(named(row)) for row in measured(rows) if row["network"] == network), network)


def ratio_of(mine: Row | None, other: str) -> Sequence[float] | None:
    """Value, low and high of the engine's time as a share of another's."""
    ratios: Mapping[str, Sequence[float]] = {} if mine is None else mine.get("ratios", {})
    return ratios.get(other)


def speed_up(mine: Row | None, other: str = "onnxruntime") -> str:
    ratio = ratio_of(mine, other)
    return "-" if ratio is None else f"{1 / ratio[0]:.2f}x ({1 / ratio[2]:.2f} to {1 / ratio[1]:.2f})"


def verdict(mine: Row | None, target: float) -> str:
    ratio = ratio_of(mine, "onnxruntime")
    return "" if ratio is None else ", met" if 1 / ratio[0] >= target else ", not met"


def ms(row: Row | None) -> str:
    if row is None:
        return "-"
    low, high = row["median_ci_ms"]
    return f"{row['median_ms']:.4g} ±{(high - low) / 2:.2g}"


def ready(row: Row | None) -> str:
    return "-" if row is None else f"{row['load_ms'] + row['first_run_ms']:.0f}"


def peak(row: Row | None) -> int | None:
    return None if row is None else int(row["memory"]["run_peak_rss_bytes"])


def megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.0f}" if size >= 1e7 else f"{size / 1e6:.2f}"


def share(value: float) -> str:
    return f"{100 * value:.0f} %"
