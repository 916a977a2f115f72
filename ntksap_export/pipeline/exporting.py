"""The stage `export`: a graph is made, compared with the model, and only then put in its place."""

from __future__ import annotations

import torch
from torch import nn

from ntksap_export.atomic import write_json
from ntksap_export.data import read_validation
from ntksap_export.errors import ExportError
from ntksap_export.graph import Graph, optimize
from ntksap_export.graph import export as export_graph
from ntksap_export.pipeline.context import Context
from ntksap_export.pipeline.precisions import run_precisions
from ntksap_export.runtime.parity import BATCHES, Limits, Parity
from ntksap_export.runtime.samples import write_samples
from ntksap_export.runtime.session import Images
from ntksap_export.runtime.verify import verify


def run_export(context: Context) -> tuple[str, ...]:
    """Export the trained model and compare it with torch; writes model.onnx, parity.json and both folders of samples.

    Raises:
        ExportError: the graph disagrees; it is then left as rejected.onnx, and a good model.onnx is not touched.
    """
    config, run = context.config, context.run
    model, mask = context.trained()
    sample = _images(context)
    graph, log = optimize(export_graph(model, sample, opset=config.opset, mask=mask))
    for line in log:
        context.progress.say(f"  {line}")
    images = sample.numpy()
    parity = _verified(context, model, graph, images)
    if parity.vacuous:
        context.progress.say("  warning: the model answers every image alike, so that agreement proves little")
    for name in ("rejected.onnx", "rejected_parity.json"):
        run.file(name).unlink(missing_ok=True)
    samples = write_samples(run.path, model, graph, images)
    graph.save(run.file("model.onnx"))
    stored = {**parity.to_json(), "passes": list(log), "opset": config.opset}
    write_json(run.file("parity.json"), stored)
    smaller = run_precisions(context, model, graph, images)
    write_json(run.file("parity.json"), {**stored, "precisions": smaller.entries})
    if smaller.problems:
        raise ExportError("; ".join(smaller.problems))
    return ("model.onnx", "parity.json", *samples, *smaller.files)


def _images(context: Context) -> torch.Tensor:
    config = context.config
    spec = context.run.read_json("config.json")["pretrained_cfg"]
    size, count = context.shape[-1], max(BATCHES)
    return read_validation(config.data, count, size, spec["mean"], spec["std"], config.data_dir, config.broken_images)


def _verified(context: Context, model: nn.Module, graph: Graph, images: Images) -> Parity:
    """Compare; a graph that fails is kept under another name."""
    config, run = context.config, context.run
    try:
        parity = verify(model, graph, images, Limits(config.atol, config.rtol))
    except ExportError as error:  # onnxruntime does not even load it
        graph.save(run.file("rejected.onnx"))
        raise ExportError(f"{error}; see rejected.onnx") from error
    if not parity.passed:
        graph.save(run.file("rejected.onnx"))
        write_json(run.file("rejected_parity.json"), parity.to_json())
        raise ExportError(f"{parity.complaint()}; see rejected.onnx and rejected_parity.json")
    return parity
