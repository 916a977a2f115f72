"""The stages of the road. Each takes what the one before wrote to the directory, and writes its own files whole."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ntksap_export.atomic import write_json, write_text
from ntksap_export.checkpoint import describe, save_mask
from ntksap_export.errors import RunDirectoryError
from ntksap_export.graph import Graph, dense_twin, files_of, load_dense
from ntksap_export.masks import format_channels, format_health, format_table, layer_costs, mask_health, mask_table
from ntksap_export.pipeline.choose import choose_mask
from ntksap_export.pipeline.context import CHANNELS, Context, config_json
from ntksap_export.pipeline.exporting import made_graph, run_export
from ntksap_export.pipeline.precisions import PRECISIONS
from ntksap_export.pipeline.summary import stale
from ntksap_export.pipeline.training import run_train
from ntksap_export.profiling.environment import environment
from ntksap_export.profiling.profile import Variant, profile
from ntksap_export.profiling.settings import Settings
from ntksap_export.report import ReportInput, render_card, render_html


def run_prune(context: Context) -> tuple[str, ...]:
    """Choose the mask at initialization; writes config.json, mask.safetensors and mask.json."""
    config, run = context.config, context.run
    write_json(run.file("config.json"), config_json(context, None))
    choice = choose_mask(context)
    dense = context.build_dense()
    whole = choice.on_dense(dense)
    table, health = mask_table(whole, layer_costs(dense, context.shape)), mask_health(choice.mask)
    context.progress.say(f"{format_table(table)}\n{format_health(health)}")
    for layer, reason in choice.left.items():
        context.progress.say(f"left whole: {layer} ({reason})")
    if choice.plan is not None:
        context.progress.say(format_channels(choice.plan.summary()))
        write_json(run.file(CHANNELS), choice.plan.to_json())
    else:
        run.file(CHANNELS).unlink(missing_ok=True)  # of a run that was overwritten
    save_mask(run.file("mask.safetensors"), choice.mask, context.provenance().to_json())
    write_json(
        run.file("mask.json"),
        {
            "schema": 1,
            "method": config.method,
            "pattern": config.pattern,
            "scope": config.scope,
            "budget": {"sparsity": config.sparsity, "flops": config.flops, "params": config.params},
            "rounds": config.rounds,
            "control": config.control,
            "seconds": round(choice.seconds, 3),
            "left_whole": choice.left,
            "channels": None if choice.plan is None else choice.plan.summary(),
            "digest": choice.mask.digest(),
            "table": asdict(table),
            "health": asdict(health),
            "provenance": context.provenance().to_json(),
        },
    )
    return ("mask.safetensors", "mask.json", *(() if choice.plan is None else (CHANNELS,)))


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
    write_json(run.file("profile.json"), profile_json(cells, _file_sizes(run.path)))
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


def run_report(context: Context) -> tuple[str, ...]:
    """Write report.html and README.md from what the other stages left.

    Raises:
        RunDirectoryError: a part is missing, or was measured of an earlier graph.
    """
    run = context.run
    if stale(run, "profile") and run.file("profile.json").is_file():
        raise RunDirectoryError(f"'{run.file('profile.json')}' is of an earlier graph; run `ntksap profile` first")
    data = ReportInput(
        config=run.read_json("config.json"),
        mask=run.read_json("mask.json"),
        metrics=run.read_json("metrics.json"),
        parity=run.read_json("parity.json"),
        profile=run.read_json("profile.json"),
        sizes=_sizes(context),
        command=context.command,
        versions=dict(context.provenance().versions),
    )
    write_text(run.file("report.html"), render_html(data))
    write_text(run.file("README.md"), render_card(data))
    return ("report.html", "README.md")


RUNNERS = {
    "prune": run_prune,
    "train": run_train,
    "export": run_export,
    "profile": run_profile,
    "report": run_report,
}


def profile_json(cells: list[dict[str, Any]], sizes: dict[str, int]) -> dict[str, Any]:
    """profile.json: the machine, the files and the rows."""
    return {"schema": 1, "environment": environment(), "files": sizes, "cells": cells}


def _file_sizes(path: Path) -> dict[str, int]:
    graphs = [path / f"model{part}.onnx" for part in ("", ".fp16", ".int8")]
    files = [
        path / "model.safetensors",
        *(file for graph in graphs for file in files_of(graph)),
        path / "mask.safetensors",
    ]
    return {file.name: file.stat().st_size for file in files if file.is_file()}


def _sizes(context: Context) -> dict[str, int]:
    path = context.run.path
    dense = describe(path / "model.safetensors").dense_bytes
    if context.channel_plan() is not None:
        dense = sum(value.numel() * value.element_size() for value in context.architecture().state_dict().values())
    return {"dense checkpoint (computed)": dense, **_file_sizes(path)}
