"""The stage `export`: a graph is made, compared with the model, and only then put in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ntksap_export.atomic import write_json
from ntksap_export.data import read_validation
from ntksap_export.errors import ExportError
from ntksap_export.graph import Graph, PassLog, optimize, select_passes
from ntksap_export.graph import export as export_graph
from ntksap_export.pipeline.context import Context
from ntksap_export.runtime.eager import TorchSession
from ntksap_export.runtime.ort import OrtSession
from ntksap_export.runtime.parity import Parity, check_parity

PARITY_BATCHES = (1, 7)


def run_export(context: Context) -> tuple[str, ...]:
    """Export the trained model and compare it with torch on real images; writes model.onnx and parity.json.

    Raises:
        ExportError: the graph disagrees; it is then left as rejected.onnx, and a good model.onnx is not touched.
    """
    config, run = context.config, context.run
    model, mask = context.trained()
    images = _images(context)
    made = export_graph(model, images, opset=config.opset, mask=mask)
    graph, log = optimize(made, select_passes(config.passes))
    for entry in log:
        for line in entry.lines():
            context.progress.say(f"  {line}")
    parity = _compared(context, model, graph, images)
    if not parity.passed:
        raise _rejected(context, graph, parity)
    if parity.vacuous:
        context.progress.say("  warning: the model answers every image alike, so that agreement proves little")
    for name in ("rejected.onnx", "rejected_parity.json"):
        run.file(name).unlink(missing_ok=True)
    graph.save(run.file("model.onnx"))
    write_json(run.file("parity.json"), {**parity.to_json(), **passes_json(log), "opset": config.opset})
    return ("model.onnx", "parity.json")


def passes_json(log: Sequence[PassLog]) -> dict[str, Any]:
    """What the passes did, for parity.json: a line of each, and all of it."""
    return {"passes": [str(entry) for entry in log], "pass_log": [entry.to_json() for entry in log]}


def _images(context: Context) -> torch.Tensor:
    config = context.config
    spec = context.run.read_json("config.json")["pretrained_cfg"]
    size, count = context.shape[-1], max(PARITY_BATCHES)
    return read_validation(config.data, count, size, spec["mean"], spec["std"], config.data_dir, config.broken_images)


def _compared(context: Context, model: nn.Module, graph: Graph, images: torch.Tensor) -> Parity:
    config, content = context.config, graph.to_bytes()
    batches = [images[:count].numpy() for count in PARITY_BATCHES]
    with (
        TorchSession(model) as reference,
        OrtSession(content, optimization="off") as plain,
        OrtSession(content, optimization="all") as fast,
    ):
        return check_parity(reference, (plain, fast), batches, atol=config.atol, rtol=config.rtol)


def _rejected(context: Context, graph: Graph, parity: Parity) -> ExportError:
    """Keep the graph under another name; the error that says why."""
    graph.save(context.run.file("rejected.onnx"))
    write_json(context.run.file("rejected_parity.json"), parity.to_json())
    worst = max(parity.checks, key=lambda check: check.max_rel)
    return ExportError(
        f"the graph disagrees with the model: {worst.max_abs:.3g} at batch {worst.batch} where {worst.atol:g} + "
        f"{worst.rtol:g} x {worst.logit_scale:.3g} is allowed; see rejected.onnx and rejected_parity.json"
    )
