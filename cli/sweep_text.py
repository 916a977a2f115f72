"""What `ntksap sweep` prints: plain text from plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ntksap_export.cli.columns import aligned


def plan_text(plan: dict[str, Any]) -> str:
    """The cells of --dry-run."""
    rows = [
        (cell["dir"], cell["method"], cell["pattern"], _sparsity(cell), _to_do(cell), _seconds(cell))
        for cell in plan["cells"]
    ]
    header = ("directory", "method", "pattern", "sparsity", "to do", "estimated s")
    parts = plan["estimated_s"]
    return "\n".join(
        [
            f"sweep in {plan['out']} (nothing is written): {len(rows)} cells, precision "
            f"{','.join(plan['axes']['precision'])}",
            "",
            *aligned(header, rows, "<<<><>"),
            *_reasons(plan["cells"]),
            "",
            "estimated time: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in parts.items()),
        ]
    )


def result_text(tree: dict[str, Any], out: Path) -> str:
    """All points, the front and the chosen one marked; what failed, with its reason; and the verdict."""
    points = [(cell, point) for cell in tree["cells"] for point in cell.get("points", ())]
    points.sort(key=lambda pair: tuple(str(pair[1][key]) for key in _PLACE))
    rows = [
        (
            _mark(cell, point, tree["chosen"]),
            cell["dir"],
            "engine" if point["variant"] == "engine" else point["precision"],
            *(str(point[key]) for key in _PLACE),
            f"{point['accuracy']:.2%}",
            f"{point['p50_ms']:.3f}",
            f"{point['size_bytes'] / 1e6:.2f}",
            f"{point['run_peak_rss_bytes'] / 1e6:.0f}",
        )
        for cell, point in points
    ]
    header = ("", "network", "precision", *_PLACE, "accuracy", "p50 ms", "MB", "peak RSS MB")
    return "\n".join(
        [
            *(aligned(header, rows, "<<<<<>>>>>>") if rows else []),
            *(["* on the Pareto front of its place; > chosen"] if rows else []),
            *_reasons(tree["cells"]),
            *(f"{place['backend']} on {place['device']}: skipped, {place['reason']}" for place in tree["skipped"]),
            tree["verdict"],
            f"see {out / 'sweep.html'} and {out / 'sweep.json'}",
        ]
    )


_PLACE = ("backend", "device", "batch", "threads")


def _mark(cell: dict[str, Any], point: dict[str, Any], chosen: dict[str, Any] | None) -> str:
    if chosen is not None and {"dir": cell["dir"], **point} == chosen:
        return ">"
    return "*" if point["on_front"] else ""


def _reasons(cells: list[dict[str, Any]]) -> list[str]:
    return [f"{cell['dir']}: {cell['status']}, {cell['reason']}" for cell in cells if cell["reason"]]


def _sparsity(cell: dict[str, Any]) -> str:
    return "" if cell["sparsity"] is None else f"{cell['sparsity']:g}"


def _to_do(cell: dict[str, Any]) -> str:
    if cell["status"] == "skipped":
        return "skipped"
    return ", ".join(stage for stage in ("prune", "train", "export") if stage not in cell["done"]) or "finished before"


def _seconds(cell: dict[str, Any]) -> str:
    return f"{cell['estimated_s']:.0f}"
