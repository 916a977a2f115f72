"""Rows of `--per-layer` for what runs inside the nodes of the sparse engine.

FLOPs are those of nonzero weights here: the engine does no others, so that `share_of_peak` is what its kernels reach.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

Row = dict[str, Any]
_FLOAT = 4  # bytes


def with_operators(rows: Sequence[Row], told: Mapping[str, Sequence[Mapping[str, Any]]], total_ms: float) -> list[Row]:
    """The rows with a node of the engine replaced by its operators, and what of its time is none of theirs.

    Args:
        rows: as `layers` has them; a node of the engine is one row.
        told: name of such a node -> its operators, as `runtime.tracing.engine` tells them.
        total_ms: of a whole call.
    """
    found: list[Row] = []
    for row in rows:
        parts = [_row(row, part, total_ms) for part in told.get(row["node"], ())]
        if parts:
            rest = max(0.0, row["ms"] - sum(part["ms"] for part in parts))
            row = {**row, "op": f"{row['op']}, the rest", "ms": rest, "share": rest / total_ms if total_ms else 0.0}
        found += [*parts, row]
    return found


def _row(node: Row, told: Mapping[str, Any], total_ms: float) -> Row:
    ms, macs = float(told["us"]) / 1e3, told.get("macs") or 0
    moved = int(told.get("bytes") or 0) + _FLOAT * (prod(told["input"]) + prod(told["output"]))
    return {
        **node,
        "node": f"{node['node']}/{told['number']}",
        "op": _op(told),
        "module": None,
        "ms": ms,
        "share": ms / total_ms if total_ms else 0.0,
        "macs": macs,
        "nonzero_macs": macs,
        "gflops": 2 * macs / ms / 1e6 if macs and ms else None,
        "bytes": moved,
        "intensity": 2 * macs / moved if macs and moved else None,
        "in_use_bytes": None,
        "density": told.get("density"),
        "kernel": told.get("kernel"),
    }


def _op(told: Mapping[str, Any]) -> str:
    """Short, and of no other operator: 7 conv 3x3 16>32 8x8 38%."""
    taken, made = told["input"], told["output"]
    size = "x".join(map(str, told["kernel_size"])) if told.get("kernel_size") else ""
    density = f"{told['density']:.0%}" if told.get("density") is not None else ""
    words = (str(told["number"]), told["kind"], size, f"{taken[0]}>{made[0]}", f"{made[1]}x{made[2]}", density)
    return " ".join(word for word in words if word)
