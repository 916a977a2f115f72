"""README.md of a run: a model card with front matter for the Hugging Face hub and the run's own numbers."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ntksap_export.report import graph, tables
from ntksap_export.report.cells import pruned_of
from ntksap_export.report.inputs import ReportInput, at
from ntksap_export.report.text import percent, size, sparsity_of, verdict


def render_card(data: ReportInput) -> str:
    """The model card as Markdown; parts that are empty are left out or named as not measured."""
    return _environment().get_template("card.md.jinja").render(_context(data))


@cache
def _environment() -> Environment:
    # Markdown, so nothing is escaped for HTML by itself: foreign text passes through `md` or `yaml`.
    environment = Environment(
        loader=PackageLoader("ntksap_export.report", "templates"),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = markdown
    environment.filters["yaml"] = json.dumps
    environment.filters["percent"] = percent
    return environment


def markdown(value: object) -> str:
    """One line of Markdown text in which nothing is markup or ends a table cell."""
    return re.sub(r"([\\`*_\[\]<>|#&])", r"\\\1", " ".join(str(value).split()))


def _context(data: ReportInput) -> dict[str, Any]:
    """Every name the template uses."""
    shape, dtype = graph.input_of(data)
    return {
        "architecture": str(at(data.config, "architecture", default="network")),
        "sparsity": sparsity_of(data),
        "method": str(at(data.mask, "method", default="")),
        "channels": bool(at(data.mask, "channels")),
        "masked": at(data.mask, "pattern") != "channel",
        "dataset": at(data.config, "data", "name"),
        "sentences": verdict(data),
        "run_rows": tables.run_rows(data),
        "results": _results(data),
        "latency_rows": tables.latency_rows(data.profile, pruned_of(data)),
        "environment": at(data.profile, "environment", "cpu"),
        "input_shape": str(shape),
        "input_dtype": dtype,
        "preparation": graph.preparation(data),
        "limitations": _limitations(data),
        "fence": "`" * max(3, 1 + max((len(run) for run in re.findall("`+", data.command)), default=0)),
        "command": data.command,
    }


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
    for file, _, before, after, *_, result in tables.precision_rows(data.parity):
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
    found += tables.precision_notes(data.parity)
    found += [
        *([graph.zeros(data.parity)] if at(data.mask, "pattern") != "channel" else []),
        "Latency and peak RSS hold for the machine, the versions and the threads they were measured with.",
    ]
    return found + [str(advice) for advice in at(data.mask, "health", "advice", default=[])]
