"""Masks of several methods side by side, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ntksap_export.analysis.overlap import overlap
from ntksap_export.atomic import write_json, write_text
from ntksap_export.config import RunConfig
from ntksap_export.errors import ConfigError, RunDirectoryError
from ntksap_export.masks import MaskTable, layer_costs, mask_health, mask_table
from ntksap_export.pipeline.choose import choose_mask
from ntksap_export.pipeline.context import Context, check_network
from ntksap_export.pipeline.methods import called
from ntksap_export.pipeline.resolve import resolve
from ntksap_export.pipeline.run_dir import RunDir
from ntksap_export.progress import Progress
from ntksap_export.report import render_comparison
from ntksap_export.search import search_of


def compare_methods(config: RunConfig, methods: Sequence[str], run: RunDir, progress: Progress) -> dict[str, Any]:
    """Prune once with each method, under otherwise equal settings.

    Args:
        config: what they share; its own method is not used, its rounds are if they are given.
        methods: two or more names of methods.
        run: where a run of these settings would stand; not touched.
        progress: where rounds are shown.

    Returns:
        `layers`: their names; `methods`: per method its density and FLOP density, in all, per group of layers and per
        layer, seconds, and health;
        `overlap`: per pair of methods kept by both / kept by either (IoU).

    Raises:
        ConfigError: an unknown method, or fewer than two.
        The errors of pruning.
    """
    if len(set(methods)) < 2:
        raise ConfigError(f"--compare takes two or more methods separated by commas; got '{','.join(methods)}'")
    contexts = {}
    for name in dict.fromkeys(methods):
        resolved, look = resolve(config.with_values(method=name))
        if search_of(name, resolved.steps) is not None:
            raise ConfigError(f"--compare trains nothing; got {called(resolved)}, which does. Prune with it by itself")
        contexts[name] = Context(resolved, run, progress, look.name)
    check_network(next(iter(contexts.values())))
    costs = layer_costs(next(iter(contexts.values())).build_dense(), next(iter(contexts.values())).shape)
    masks, rows = {}, {}
    for name, context in contexts.items():
        progress.say(f"{name} ...")
        choice = choose_mask(context)
        masks[name] = choice.on_dense(context.build_dense())
        table, health = mask_table(masks[name], costs), mask_health(choice.mask)
        rows[name] = {
            "seconds": round(choice.seconds, 2),
            "density": table.density,
            "flop_density": table.flop_density,
            "layer_densities": [row.density for row in table.rows],
            "groups": _groups(table),
            "collapsed_layers": len(health.collapsed_layers),
            "empty_channels": sum(health.empty_output_channels.values()),
            "empty_classes": health.empty_classes,
        }
    overlaps = {
        f"{first} {second}": overlap(masks[first], masks[second]).jaccard
        for index, first in enumerate(masks)
        for second in list(masks)[index + 1 :]
    }
    resolved = next(iter(contexts.values())).config
    return {
        "model": config.model,
        "sparsity": resolved.sparsity,
        "budget": resolved.budget_text(),
        "pattern": resolved.pattern,
        "layers": [cost.name for cost in costs],
        "methods": rows,
        "overlap": overlaps,
    }


def write_comparison(result: dict[str, Any], directory: Path) -> tuple[Path, Path]:
    """Write compare.json and compare.html, whole or not at all; creates the directory.

    Raises:
        RunDirectoryError: the path is a file.
    """
    if directory.exists() and not directory.is_dir():
        raise RunDirectoryError(f"'{directory}' is a file; choose another --out")
    directory.mkdir(parents=True, exist_ok=True)
    data, page = directory / "compare.json", directory / "compare.html"
    write_json(data, result)
    write_text(page, render_comparison(result))
    return data, page


def _groups(table: MaskTable) -> dict[str, dict[str, float]]:
    """Layers by the first part of their name (layer1, layer2, ...); a flat list of features by its place in it."""
    sums: dict[str, list[int]] = {}
    for row in table.rows:
        parts = row.name.split(".")
        group = parts[0] if parts[0] != "features" else ".".join(parts[:2])
        total = sums.setdefault(group, [0, 0, 0, 0])
        for place, value in enumerate((row.kept, row.weights, row.kept_macs, row.macs)):
            total[place] += value
    return {
        group: {"density": kept / weights, "flop_density": kept_macs / macs if macs else 0.0}
        for group, (kept, weights, kept_macs, macs) in sums.items()
    }
