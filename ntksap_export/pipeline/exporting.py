"""The stage `export`: a graph is made, compared with the model, and only then put in its place."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ntksap_export.atomic import write_json
from ntksap_export.config import RunConfig
from ntksap_export.errors import ExportError
from ntksap_export.graph import (
    SPARSE_WARNING,
    Graph,
    PassLog,
    Preprocessing,
    move_graph,
    optimize,
    remove_graph,
    select_passes,
    sparsify,
)
from ntksap_export.graph import export as export_graph
from ntksap_export.masks import Mask
from ntksap_export.pipeline.context import Context
from ntksap_export.pipeline.engine import BODY, REJECTED, Places, against_model, remove_body, write_body
from ntksap_export.pipeline.graph_input import (
    behind_input,
    graph_images,
    preprocessing_of,
    taken_by_graph,
    with_input,
)
from ntksap_export.pipeline.precisions import RejectedError, run_precisions
from ntksap_export.runtime.parity import BATCHES, Limits, Parity
from ntksap_export.runtime.samples import write_samples
from ntksap_export.runtime.session import Images
from ntksap_export.runtime.verify import verify


class Made(NamedTuple):
    """A graph, a line for each thing that was done to its input, and what each pass did."""

    graph: Graph
    said: tuple[str, ...]
    log: tuple[PassLog, ...]


def run_export(context: Context) -> tuple[str, ...]:
    """Export the trained model and compare it with torch; writes model.onnx, parity.json and both folders of samples.

    Raises:
        ExportError: the graph disagrees; it is then left as rejected.onnx, and a good model.onnx is not touched.
        RejectedError: model.onnx is in its place; a graph beside it that was asked for is not good enough.
    """
    config, run = context.config, context.run
    model, mask = context.trained()
    told = preprocessing_of(context)
    graph, said, log = made_graph(context, model, mask, told)
    staged = run.workspace / "model.onnx"
    for line in (*said, *pass_lines(log), *write_graph(config, graph, staged)):
        context.progress.say(f"  {line}")
    images = graph_images(context, told, max(BATCHES)).numpy()
    reference = behind_input(config, model, told)
    parity = _verified(context, reference, graph, staged, images)
    if parity.vacuous:
        context.progress.say("  warning: the model answers every image alike, so that agreement proves little")
    remove_graph(run.file("rejected.onnx"))
    run.file("rejected_parity.json").unlink(missing_ok=True)
    samples = write_samples(run.path, reference, graph, images)
    files = move_graph(staged, run.file("model.onnx"))
    stored = {
        **parity.to_json(),
        **passes_json(log),
        "input": list(said),
        "takes": taken_by_graph(config, told).to_json(),
        "sparse_initializers": config.sparse_initializers,
        "opset": config.opset,
    }
    write_json(run.file("parity.json"), stored)
    places = Places(run.file("model.onnx"), run.file(BODY), run.workspace / BODY, run.file(REJECTED))
    remove_body(places)
    judge = against_model(reference, images)
    body = write_body(config, graph, images.shape, judge, places, context.progress)
    stored |= {"engine": body.entry} if body.entry else {}
    write_json(run.file("parity.json"), stored)
    smaller = run_precisions(context, reference, graph, images, told)
    write_json(run.file("parity.json"), {**stored, "precisions": smaller.entries})
    problems = [*([] if body.problem is None else [f"{body.problem}; see parity.json"]), *smaller.problems]
    if problems:
        raise RejectedError("; ".join(problems))
    beside = (file.name for file in (*files, *body.files))
    return (*beside, "parity.json", *samples, *smaller.files)


def passes_json(log: Sequence[PassLog]) -> dict[str, Any]:
    """What the passes did, for parity.json: a line of each, and all of it."""
    return {"passes": [str(entry) for entry in log], "pass_log": [entry.to_json() for entry in log]}


def pass_lines(log: Sequence[PassLog]) -> tuple[str, ...]:
    """What the passes did, for people."""
    stripped = any(entry.name == "strip_metadata" for entry in log)
    leaks = () if stripped else ("warning: --passes leaves strip_metadata out: the graph names paths of this machine",)
    return (*(line for entry in log for line in entry.lines()), *leaks)


def made_graph(context: Context, model: nn.Module, mask: Mask | None, told: Preprocessing) -> Made:
    """The graph of a model of the run.

    Args:
        context: of the run.
        model: left untouched.
        mask: baked in.
        told: what is done to an image before the run's model takes it.
    """
    classes = context.run.read_json("config.json")["classes"]
    sample = torch.zeros(1, *context.shape)  # the exporter asks for shape and type alone
    return graph_of(context.config, model, mask, sample, told, classes)


def graph_of(
    config: RunConfig,
    model: nn.Module,
    mask: Mask | None,
    sample: torch.Tensor,
    told: Preprocessing | None,
    classes: Sequence[str] | None,
) -> Made:
    """The graph of a model as the settings have it, what was done to its input, and what the passes did.

    Args:
        config: the settings of the export.
        model: left untouched.
        mask: baked in.
        sample: as `graph.export` takes it: only shape and type matter.
        told: what is done to an image before the model takes it; None where nobody knows.
        classes: their names, where they are known.
    """
    graph = export_graph(model, sample, opset=config.opset, mask=mask, dynamic_size=config.dynamic_size)
    graph, said = with_input(config, graph, told, classes)
    graph, log = optimize(graph, select_passes(config.passes))
    return Made(graph, said, log)


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


def _verified(context: Context, reference: nn.Module, graph: Graph, staged: Path, images: Images) -> Parity:
    """Compare what was written; a graph that fails is kept under another name."""
    config, run = context.config, context.run
    try:
        parity = verify(reference, graph, images, Limits(config.atol, config.rtol), file=staged)
    except ExportError as error:  # onnxruntime does not even load it
        write_graph(config, graph, run.file("rejected.onnx"))
        raise ExportError(f"{error}; see rejected.onnx") from error
    if not parity.passed:
        write_graph(config, graph, run.file("rejected.onnx"))
        write_json(run.file("rejected_parity.json"), parity.to_json())
        raise ExportError(f"{parity.complaint()}; see rejected.onnx and rejected_parity.json")
    return parity
