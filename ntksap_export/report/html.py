"""report.html: everything a run showed, in one file that fetches nothing and runs nothing."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ntksap_export.report import charts, graph, tables
from ntksap_export.report.cells import pruned_of
from ntksap_export.report.inputs import ReportInput, at
from ntksap_export.report.text import percent, sparsity_of, verdict

RAW_LIMIT_BYTES = 200_000
"""A larger JSON source is embedded without the raw times of each run."""


def render_html(data: ReportInput) -> str:
    """The report as one self-contained HTML page; parts that are empty say that they were not run."""
    return page("report.html.jinja", _context(data))


def page(template: str, names: dict[str, Any]) -> str:
    """A template of this room filled in."""
    return _environment().get_template(template).render(names)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ntksap_export.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["units"] = keep_units
    return environment


def keep_units(sentence: str) -> str:
    """No line break between a number and its unit."""
    return re.sub(r"(?<=\d) (?=(?:%|ms|s|min|h|[kMGT]?B|[kMGT]|threads?)\b|%)", "\N{NO-BREAK SPACE}", sentence)


def _context(data: ReportInput) -> dict[str, Any]:
    """Every name the template uses."""
    health, pruned = at(data.mask, "health", default={}), pruned_of(data)
    return {
        "title": _title(data),
        "sentences": verdict(data),
        "tiles": tables.tiles(data),
        "run_rows": tables.run_rows(data),
        "flag_rows": tables.flag_rows(data),
        "trained": bool(data.metrics),
        "history": _present(
            charts.history(data.metrics, "accuracy", "Top-1 accuracy by epoch.", "top-1 accuracy, %", 100),
            charts.history(data.metrics, "loss", "Loss by epoch.", "cross-entropy, nats"),
        ),
        "layers": charts.layer_figures(data.mask),
        "layer_rows": tables.layer_rows(data.mask),
        "health_rows": tables.health_rows(health) if health else [],
        "advice": at(health, "advice", default=[]),
        "profiled": bool(at(data.profile, "cells")),
        "latency": _present(
            *charts.latency_figures(data.profile, pruned), charts.throughput_figure(data.profile, pruned)
        ),
        "latency_rows": tables.latency_rows(data.profile, pruned),
        "memory": charts.memory_figures(data.profile, pruned),
        "sizes": _present(charts.sizes_figure(data)),
        "parity": data.parity,
        "parity_rows": tables.parity_rows(data.parity),
        "removed": graph.compaction(data.parity),
        "preparation": graph.preparation(data) if data.parity else "",
        "agreement": percent(at(data.parity, "top1_agreement")),
        "parity_passed": bool(at(data.parity, "passed")),
        "precision_rows": tables.precision_rows(data.parity),
        "precision_notes": tables.precision_notes(data.parity),
        "skipped_rows": tables.skipped_rows(data.profile, pruned),
        "environment_rows": tables.environment_rows(data),
        "command": data.command,
        "source": _source(data),
    }


def _title(data: ReportInput) -> str:
    name = str(at(data.config, "architecture", default="network"))
    sparsity = sparsity_of(data)
    return name if sparsity is None else f"{name} at {percent(sparsity)} sparsity"


def _present(*figures: charts.Figure | None) -> list[charts.Figure]:
    return [figure for figure in figures if figure]


def _source(data: ReportInput) -> str:
    """The whole input as JSON that cannot end its script element."""
    tree = _finite(asdict(data))
    if len(json.dumps(tree)) > RAW_LIMIT_BYTES:
        for cell in at(tree, "profile", "cells", default=[]):
            cell.pop("times_ms", None)
    return json.dumps(tree, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _finite(value: Any) -> Any:
    """NaN and infinity have no JSON: null."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
