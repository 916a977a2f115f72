"""The stage `profile`, and measuring what is in no run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ntksap_export.atomic import write_json
from ntksap_export.graph import Graph, dense_twin, files_of, load_dense
from ntksap_export.pipeline.context import CHANNELS, Context
from ntksap_export.pipeline.exporting import made_graph
from ntksap_export.pipeline.precisions import PRECISIONS
from ntksap_export.profiling.environment import environment
from ntksap_export.profiling.profile import Variant, profile
from ntksap_export.profiling.settings import Settings


def run_profile(context: Context) -> tuple[str, ...]:
    """Measure the sparse network beside its dense twin; writes profile.json."""
    run = context.run
    graph_path = run.file("model.onnx")
    graph = load_dense(graph_path)
    run.workspace.mkdir(parents=True, exist_ok=True)
    twin_path = run.workspace / "dense.onnx"
    channels = run.file(CHANNELS) if context.channel_plan() is not None else None
    _dense_graph(context, graph, removed=channels is not None or _is_compacted(context, graph)).save(twin_path)
    checkpoint = run.file("model.safetensors")
    variants = (
        Variant("sparse", graph_path, context.model_arguments, checkpoint, context.shape, channels),
        *(
            Variant("sparse", path, None, None, context.shape, precision=name)
            for name in PRECISIONS
            if (path := run.file(f"model.{name}.onnx")).is_file()
        ),
        Variant("dense", twin_path, context.model_arguments, None, context.shape),
    )
    cells = profile(variants, Settings.of(context.config), progress=context.progress)
    write_json(run.file("profile.json"), profile_json(cells, file_sizes(run.path)))
    return ("profile.json",)


def _is_compacted(context: Context, graph: Graph) -> bool:
    """Whether a pass of the export removed channels: a weight is gone, or smaller than its mask."""
    shapes = {name: values.shape for name, values in graph.weights()}
    return any(shapes.get(name) != tuple(kept.shape) for name, kept in context.mask().items())


def _dense_graph(context: Context, graph: Graph, removed: bool) -> Graph:
    """The baseline: the network with all its channels and random weights in place of zeros."""
    if not removed:
        return dense_twin(graph)
    return made_graph(context, context.architecture().eval(), None)[0]


def profile_json(cells: list[dict[str, Any]], sizes: dict[str, int]) -> dict[str, Any]:
    """profile.json: the machine, the files and the rows."""
    return {"schema": 1, "environment": environment(), "files": sizes, "cells": cells}


def file_sizes(path: Path) -> dict[str, int]:
    """Bytes of the files of a run that are delivered, by name."""
    graphs = [path / f"model{part}.onnx" for part in ("", ".fp16", ".int8")]
    files = [
        path / "model.safetensors",
        *(file for graph in graphs for file in files_of(graph)),
        path / "mask.safetensors",
    ]
    return {file.name: file.stat().st_size for file in files if file.is_file()}
