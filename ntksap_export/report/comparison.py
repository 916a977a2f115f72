"""compare.html: masks of several methods side by side, on one page that fetches nothing."""

from __future__ import annotations

from typing import Any

from ntksap_export.report.charts import Figure
from ntksap_export.report.heatmap import heat_map
from ntksap_export.report.html import page
from ntksap_export.report.text import percent


def render_comparison(result: dict[str, Any]) -> str:
    """The page of what `compare_methods` found."""
    methods: dict[str, Any] = result["methods"]
    names = list(methods)
    return page("compare.html.jinja", {
        "title": f"{result['model']}: {result['budget']}, {result['pattern']}",
        "layers": [_layers(result["layers"], methods)],
        "heads": ["method", "seconds", "density", "FLOP density", *_groups(methods), "collapsed", "empty channels"],
        "rows": [_row(name, methods[name]) for name in names],
        "overlap": [_overlap(result["overlap"], names)],
    })  # fmt: skip


def _layers(layers: list[str], methods: dict[str, Any]) -> Figure:
    caption = "Density of each layer, in percent: kept / total weights."
    shares = [[row["layer_densities"][index] for row in methods.values()] for index in range(len(layers))]
    names = [layer.removesuffix(".weight") for layer in layers]
    return Figure(caption, heat_map(names, list(methods), shares, label="density by layer and method"))


def _overlap(pairs: dict[str, float], names: list[str]) -> Figure:
    shares = [
        [1.0 if one == other else pairs.get(f"{one} {other}", pairs.get(f"{other} {one}", 0.0)) for other in names]
        for one in names
    ]
    return Figure("Intersection over union, in percent.", heat_map(names, names, shares, label="overlap of masks"))


def _groups(methods: dict[str, Any]) -> list[str]:
    return list(next(iter(methods.values()))["groups"])


def _row(name: str, row: dict[str, Any]) -> list[str]:
    groups = [f"{percent(group['density'])} / {percent(group['flop_density'])}" for group in row["groups"].values()]
    return [
        name,
        f"{row['seconds']:.1f}",
        percent(row["density"]),
        percent(row["flop_density"]),
        *groups,
        str(row["collapsed_layers"]),
        str(row["empty_channels"]),
    ]
