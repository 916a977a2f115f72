"""What `ntksap analyze` prints: one line a network, the numbers that matter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ntksap_export.cli.columns import aligned
from ntksap_export.cli.texts import one_line
from ntksap_export.report.text import count, percent, significant

Row = dict[str, Any]
Columns = Sequence[tuple[str, str, Callable[[Any], str]]]
_MASKS: Columns = (
    ("density", "density", percent),
    ("effective", "effective_density", percent),
    ("live nodes", "live_channels", count),
    ("of", "channels", count),
    ("log10 paths", "log10_paths", significant),
)
_KERNELS: Columns = (
    ("trace", "ntk_trace", significant),
    ("top", "ntk_top", significant),
    ("condition", "ntk_condition", significant),
    ("eff. rank", "ntk_effective_rank", significant),
    ("alignment", "ntk_alignment", significant),
    ("distance", "ntk_distance_log10", significant),
    ("full trace", "ntk_full_trace", significant),
    ("+-", "ntk_full_trace_error", significant),
)
_JACOBIANS: Columns = (
    ("mean", "jsv_mean", significant),
    ("spread", "jsv_spread", significant),
    ("condition", "jsv_condition", significant),
    ("min", "jsv_min", significant),
    ("max", "jsv_max", significant),
)


def analysis_text(result: dict[str, Any], rows: Sequence[Row]) -> str:
    """Tables of what was looked at, then where the page is.

    Args:
        result: of `pipeline.analyze`.
        rows: of `report.analysis_rows`.
    """
    said = result["settings"]
    images = f"{said['images']} images of {one_line(said['data']) if said['real'] else 'noise'}"
    draws = f", mean of {said['seeds']} draws" if said["seeds"] > 1 else ""
    lines = [f"{one_line(result['subject']['model'])}: {images}{draws}"]
    lines += _table("masks", _distinct(rows), _MASKS)
    lines += _table(f"tangent kernel (form {said['form']}); alignment and distance: from dense", rows, _KERNELS)
    lines += _table("singular values of d logits / d image", rows, _JACOBIANS)
    if result["overlap"]:
        pairs = [
            (one_line(pair["first"]), one_line(pair["second"]), percent(pair["jaccard"]), percent(pair["by_chance"]))
            for pair in result["overlap"]
        ]
        lines += ["", *aligned(("overlap of masks", "", "kept by both", "by chance"), pairs, "<<>>")]
    return "\n".join(lines)


def _distinct(rows: Sequence[Row]) -> list[Row]:
    """Without a run's networks along and after training, whose mask is that of the one before it."""
    return [row for row in rows if row["state"] == rows[0]["state"] or row["epoch"] is None]


def _table(name: str, rows: Sequence[Row], columns: Columns) -> list[str]:
    """The columns of which a row has a value, under a heading; nothing where none has."""
    there = [column for column in columns if any(row[column[1]] is not None for row in rows)]
    if not there or (name == "masks" and len(rows) == 1 and len(there) == 1):
        return []
    header = ("network", *(head for head, _, _ in there))
    cells = [(one_line(row["name"]), *(form(row[key]) for _, key, form in there)) for row in rows]
    return ["", name, *aligned(header, cells, "<" + ">" * len(there))]
