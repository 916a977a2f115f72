"""From turns to the rows of profile.json."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from ntksap_export.errors import NtksapError
from ntksap_export.profiling.cells import Cell, Variant
from ntksap_export.profiling.isolated import WAITS, CellError
from ntksap_export.profiling.noise import noise_facts, verdict
from ntksap_export.profiling.settings import Settings
from ntksap_export.profiling.statistics import median_interval, ratio_interval, summarize
from ntksap_export.profiling.turns import Turns
from ntksap_export.runtime import backends

_TINY = 2.0**-126  # smallest normal float32


def skipped(head: Mapping[str, Any], error: CellError) -> dict[str, Any]:
    """The row of a cell without numbers."""
    row = {**head, "status": "skipped", "reason": str(error)}
    return {**row, "fallback": True} if error.kind == "fallback" else row


def measured(
    head: Mapping[str, Any], turns: Turns, ready: Mapping[str, Any], last: Mapping[str, Any], settings: Settings
) -> dict[str, Any]:
    """The row of a cell.

    Args:
        head: the first columns.
        turns: all of them.
        ready: what its process told before them: warm-up and options.
        last: what it told after them: memory, and of a GPU its clocks.
        settings: as measured.
    """
    summary = summarize(turns.times_ms, head["batch"], settings.percentiles)
    if settings.mode == "throughput":
        summary["throughput_images_per_s"] = head["batch"] * len(turns.times_ms) / turns.wall_s
    medians = [turns.medians[turn] for turn in sorted(turns.medians)]
    low, high, level = median_interval(medians)
    middle = summary["latency_ms"]["p50"]
    told = turns.extra
    cpu, events = told.get("cpu", {}), told.get("throttled", {})
    facts = noise_facts(summary["latency_ms"], medians, cpu, events, told.get("clock_mhz"))
    return {
        **head,
        "status": "measured",
        "reason": None,
        **summary,
        "median_ci_ms": [min(low, middle), max(high, middle)],
        "ci_level": level,
        "slices": len(medians),
        "noise_facts": facts,
        **ready,
        "options": {**ready["options"], "between_turns": WAITS},
        **{key: last[key] for key in ("memory", "gpu") if key in last},
        "energy": told.get("energy", {"skipped": "not measured"}),
        "times_ms": [round(value, 5) for value in turns.times_ms],
        "slice_of": list(turns.turn_of),
    }


def ratio(turns: Turns, other: Turns, baseline: Cell) -> dict[str, Any]:
    """`ratio` of the medians to those of the baseline; empty where they have no turn in common.

    The value is that of the two p50, of all runs; the interval is that of the turns in pairs, and reaches to the value
    where that lies outside (runs so uneven that their median is not the turns').
    """
    found = ratio_interval(turns.medians, other.medians)
    if found is None:
        return {}
    _, low, high = found
    value = median(turns.times_ms) / median(other.times_ms)
    names = {"baseline": baseline.variant.name, "precision": baseline.precision}
    return {"ratio": {**names, "value": value, "low": min(low, value), "high": max(high, value)}}


def with_facts(row: dict[str, Any], variant: Variant, backend: str, settings: Settings) -> dict[str, Any]:
    """The row with what is known of its files, and the verdict on all facts."""
    if row["status"] != "measured":
        return row
    file = variant.checkpoint if backends.takes_model(backend) else variant.graph
    facts = {**row["noise_facts"], "subnormals": _subnormals(variant.graph) if variant.graph else None}
    noise = verdict(facts, row["runs"], settings.percentiles)
    return {**row, "noise": noise, "noise_facts": facts, "file_bytes": _file_bytes(file) if file else None}


@cache
def _subnormals(graph: Path) -> int | None:
    """Subnormal numbers among the float32 initializers of a graph; None where it cannot be read.

    Those that arise only in activations (tiny weight times tiny value) are not seen: the rule of thumb is that a
    network without subnormal weights rarely makes any, and one with some makes many.
    """
    import torch

    from ntksap_export.graph import open_weights

    try:
        with open_weights(graph) as weights:
            tensors = (weights.read(name)[0] for name in weights.names())
            return sum(
                int(((item != 0) & (item.abs() < _TINY)).sum()) for item in tensors if item.dtype == torch.float32
            )
    except (NtksapError, OSError):
        return None


def _file_bytes(file: Path) -> int | None:
    """Of a graph with the files beside it, or of a checkpoint."""
    try:
        if file.suffix == ".onnx":
            from ntksap_export.graph import graph_files

            return sum(part.stat().st_size for part in graph_files(file))
        return file.stat().st_size
    except (NtksapError, OSError):
        return None
