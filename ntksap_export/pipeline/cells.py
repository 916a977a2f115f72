"""A measured cell as one flat row: for summaries, for a terminal, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from ntksap_export.atomic import write_text

# The header of --csv; names stay, new ones come at the end.
COLUMNS: Final = (
    "variant", "precision", "backend", "device", "batch", "threads", "streams", "status", "reason",
    "p50_ms", "ci_low_ms", "ci_high_ms", "p90_ms", "p95_ms", "p99_ms", "mean_ms", "min_ms", "max_ms", "iqr_ms",
    "baseline", "ratio", "ratio_low", "ratio_high", "throughput_images_per_s", "max_rate_images_per_s",
    "runs", "warmup_runs", "slices", "noise", "file_bytes", "load_delta_bytes", "run_peak_rss_bytes",
    "run_peak_delta_bytes", "peak_cuda_allocated_bytes",
)  # fmt: skip
_PLAIN: Final = (
    "variant", "backend", "device", "precision", "batch", "threads", "streams", "status", "reason", "noise",
)  # fmt: skip
_LATENCY: Final = ("p50", "p90", "p95", "p99", "mean", "min", "max", "iqr")
_MEMORY: Final = ("run_peak_rss_bytes", "load_delta_bytes", "run_peak_delta_bytes", "peak_cuda_allocated_bytes")


def latency_row(cell: Mapping[str, Any]) -> dict[str, Any]:
    """A cell without its raw times, flat; what an earlier version did not measure is None."""
    row: dict[str, Any] = {key: cell.get(key) for key in _PLAIN}
    if cell["status"] != "measured":
        return row
    latency, memory, ratio = cell["latency_ms"], cell.get("memory") or {}, cell.get("ratio") or {}
    low, high = cell.get("median_ci_ms") or (None, None)
    return {
        **row,
        **{f"{name}_ms": latency.get(name) for name in _LATENCY},
        "ci_low_ms": low,
        "ci_high_ms": high,
        "baseline": ratio.get("baseline"),
        "ratio": ratio.get("value"),
        "ratio_low": ratio.get("low"),
        "ratio_high": ratio.get("high"),
        "throughput_images_per_s": cell.get("throughput_images_per_s"),
        "max_rate_images_per_s": cell.get("max_rate"),
        "server": cell.get("server"),
        "max_rate_ended": (cell.get("max_rate_search") or {}).get("ended"),
        **{key: cell.get(key) for key in ("runs", "warmup_runs", "slices", "file_bytes")},
        **{key: memory.get(key) for key in _MEMORY},
    }


def write_cells(path: Path, cells: Iterable[Mapping[str, Any]]) -> None:
    """Write cells as CSV, whole or not at all: a header, a line each, nothing where a number is not known."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for cell in cells:
        writer.writerow({key: "" if value is None else value for key, value in latency_row(cell).items()})
    write_text(path, text.getvalue())
