"""The stage `export`: a graph is made, compared with the model, and only then put in its place."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from ntksap_export.atomic import write_json
from ntksap_export.config import RunConfig
from ntksap_export.errors import ExportError
from ntksap_export.graph import SPARSE_WARNING, Graph, Preprocessing, move_graph, optimize, remove_graph, sparsify
from ntksap_export.graph import export as export_graph
from ntksap_export.masks import Mask
from ntksap_export.pipeline.context import Context
from ntksap_export.pipeline.graph_input import (
    behind_input,
    graph_images,
    normalized_images,
    preprocessing_of,
    with_input,
)
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
    graph, log = made_graph(context, model, mask)
    staged = run.workspace / "model.onnx"
    for line in (*log, *write_graph(config, graph, staged)):
        context.progress.say(f"  {line}")
    parity = _compared(context, model, staged, graph_images(context, max(PARITY_BATCHES)))
    if not parity.passed:
        raise _rejected(context, graph, parity)
    if parity.vacuous:
        context.progress.say("  warning: the model answers every image alike, so that agreement proves little")
    remove_graph(run.file("rejected.onnx"))
    run.file("rejected_parity.json").unlink(missing_ok=True)
    files = move_graph(staged, run.file("model.onnx"))
    write_json(run.file("parity.json"), {**parity.to_json(), "passes": list(log), "opset": config.opset})
    return (*(file.name for file in files), "parity.json")


def made_graph(context: Context, model: nn.Module, mask: Mask | None) -> tuple[Graph, tuple[str, ...]]:
    """The graph of a model of the run, and a line for each thing that was done to it."""
    classes = context.run.read_json("config.json")["classes"]
    return graph_of(context.config, model, mask, normalized_images(context, 1), preprocessing_of(context), classes)


def graph_of(
    config: RunConfig,
    model: nn.Module,
    mask: Mask | None,
    sample: torch.Tensor,
    told: Preprocessing | None,
    classes: Sequence[str] | None,
) -> tuple[Graph, tuple[str, ...]]:
    """The graph of a model as the settings have it, and a line for each thing that was done to it.

    Args:
        config: the settings of the export.
        model: left untouched.
        mask: baked in.
        sample: normalized images.
        told: what is done to an image before the model takes it; None where nobody knows.
        classes: their names, where they are known.
    """
    graph = export_graph(model, sample, opset=config.opset, mask=mask, dynamic_size=config.dynamic_size)
    graph, said = with_input(config, graph, told, classes)
    graph, log = optimize(graph)
    return graph, (*said, *log)


def write_graph(config: RunConfig, graph: Graph, path: Path) -> tuple[str, ...]:
    """Write a graph as the settings have it; what the user must know of the file.

    Raises:
        ExportError: it does not fit one file, where one was asked for.
    """
    if not config.sparse_initializers:
        graph.save(path, config.external_data)
        return ()
    with tempfile.TemporaryDirectory(prefix="ntksap-") as scratch:
        dense, *_ = graph.save(Path(scratch) / path.name)
        names = sparsify(dense, path)
    if not names:
        return ("sparse initializers: none gets smaller by it; a weight does below a density of a third",)
    return (f"sparse initializers: {len(names)} weights; {SPARSE_WARNING}",)


def _compared(context: Context, model: nn.Module, graph: Path, images: torch.Tensor) -> Parity:
    config = context.config
    batches = [images[:count].numpy() for count in PARITY_BATCHES]
    with (
        TorchSession(behind_input(config, model, preprocessing_of(context))) as reference,
        OrtSession(graph, optimization="off") as plain,
        OrtSession(graph, optimization="all") as fast,
    ):
        return check_parity(reference, (plain, fast), batches, atol=config.atol, rtol=config.rtol)


def _rejected(context: Context, graph: Graph, parity: Parity) -> ExportError:
    """Keep the graph under another name; the error that says why."""
    write_graph(context.config, graph, context.run.file("rejected.onnx"))
    write_json(context.run.file("rejected_parity.json"), parity.to_json())
    worst = max(parity.checks, key=lambda check: check.max_rel)
    return ExportError(
        f"the graph disagrees with the model: {worst.max_abs:.3g} at batch {worst.batch} where {worst.atol:g} + "
        f"{worst.rtol:g} x {worst.logit_scale:.3g} is allowed; see rejected.onnx and rejected_parity.json"
    )
