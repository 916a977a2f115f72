"""README.md of a run: a model card with front matter for the Hugging Face hub and the run's own numbers."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from jinja2 import Environment

from ntksap_export.report import engine, facts, graph, recovery, search, tables
from ntksap_export.report.inputs import ReportInput, at
from ntksap_export.report.markdown import escaped, fence_of, grid
from ntksap_export.report.templating import environment
from ntksap_export.report.text import percent, size
from ntksap_export.report.verdict import given, sparsity_of, theory_words, training_words, verdict

_LATENCY = (
    "backend", "device", "precision", "batch", "threads", "variant", "p50_ms", "p90_ms", "p99_ms",
    "throughput_images_per_s", "runs", "noise",
)  # fmt: skip


def render_card(data: ReportInput) -> str:
    """The model card as Markdown; parts that are empty are left out or named as not measured."""
    return _environment().get_template("card.md.jinja").render(_context(data))


@cache
def _environment() -> Environment:
    # Markdown, so nothing is escaped for HTML by itself: foreign text passes through `md` or `yaml`.
    made = environment(autoescape=False, keep_trailing_newline=True)
    made.filters["md"] = escaped
    made.filters["yaml"] = json.dumps
    made.filters["percent"] = percent
    return made


def _context(data: ReportInput) -> dict[str, Any]:
    """Every name the template uses."""
    shape, dtype = graph.input_of(data)
    return {
        "architecture": str(at(data.config, "architecture", default="network")),
        "sparsity": sparsity_of(data),
        "method": str(at(data.mask, "method", default="")),
        "at_start": not (given(data) or at(data.mask, "search")),
        "channels": bool(at(data.mask, "channels")),
        "masked": at(data.mask, "pattern") != "channel",
        "dataset": at(data.config, "data", "name"),
        "sentences": [*verdict(data), *(words for words in (theory_words(data), training_words(data)) if words)],
        "run_rows": facts.run_rows(data),
        "results": _results(data),
        "latency": _latency(data),
        "environment": at(data.profile, "environment", "cpu"),
        "input_shape": str(shape),
        "input_dtype": dtype,
        "engine": "model.sparse.onnx" in data.sizes,
        "preparation": graph.preparation(data),
        "limitations": _limitations(data),
        "fence": fence_of(data.command),
        "command": data.command,
    }


def _found(data: ReportInput) -> list[str]:
    """How the mask was found by training, and what was recovered after it."""
    return [*search.said(data.mask), *recovery.said(data.metrics)]


def _latency(data: ReportInput) -> str:
    """The table of latencies, its usual columns only."""
    table = tables.latency_table(data).only(*_LATENCY)
    heads = [column.head for column in table.columns]
    return grid(heads, table.texts(), [column.words for column in table.columns]) if table.rows else ""


def _results(data: ReportInput) -> list[tuple[str, str]]:
    table = at(data.mask, "table", default={})
    rows = [
        ("top-1 accuracy, last epoch", at(data.metrics, "final", "val_accuracy")),
        ("top-1 accuracy, best epoch", at(data.metrics, "best", "val_accuracy")),
        ("sparsity", sparsity_of(data)),
        ("density", at(table, "density")),
        ("FLOP density", at(table, "flop_density")),
    ]
    found = [(name, percent(value)) for name, value in rows if value is not None]
    if data.parity:
        passed = "passed" if at(data.parity, "passed") else "FAILED"
        found.append(("parity of model.onnx with the model", passed))
    if removed := graph.compaction(data.parity):
        found.append(("removed from model.onnx, exactly, as the mask emptied it", removed))
    if judged := engine.judged(data.parity):
        found.append(("parity of model.sparse.onnx with the model", judged))
    for file, _, before, after, *_, result in tables.precision_table(data.parity).texts():
        found.append((f"top-1 accuracy of {file}", f"{after}, model.onnx {before}; {result}"))
    return found + [(f"size of {name}", size(value)) for name, value in data.sizes.items()]


def _limitations(data: ReportInput) -> list[str]:
    found = []
    if at(data.config, "data", "embedded"):
        found.append("Trained on a small embedded data set to show the road, not to be used.")
    if data.metrics:
        found += [
            "Pruned and trained once, from one seed: another seed gives other numbers.",
            "The best epoch was chosen on the same validation images that its accuracy is reported on.",
        ]
    found += [*facts.precision_notes(data.parity), *engine.said(data.parity)]
    found += [
        *([graph.zeros(data.parity)] if at(data.mask, "pattern") != "channel" else []),
        "Latency and peak RSS hold for the machine, the versions and the threads they were measured with.",
    ]
    return found + [str(advice) for advice in at(data.mask, "health", "advice", default=[])]
