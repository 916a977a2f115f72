"""compare.html: masks of several methods side by side, before anything is trained."""

from __future__ import annotations

from typing import Any

from ntksap_export.report.document import Column, Document, Figure, Section, Table, Words, figures
from ntksap_export.report.page import to_html
from ntksap_export.report.plots import heat_map
from ntksap_export.report.text import number, percent


def render_comparison(result: dict[str, Any]) -> str:
    """The page of what `compare_methods` found."""
    methods: dict[str, Any] = result["methods"]
    names = list(methods)
    note = Words("FLOP density is the nonzero share of a group's multiply-accumulates.", "note")
    told = (
        "Weights kept by both masks, of those that either keeps (IoU). Two random masks of density d overlap by "
        "d / (2 - d)."
    )
    layers = figures(_layers(result["layers"], methods), level=True)
    overlap = figures(_overlap(result["overlap"], names), level=True)
    document = Document(
        kicker="ntksap-export comparison of masks",
        title=f"{result['model']}: {result['budget']}, {result['pattern']}",
        lines=(),
        sections=(
            Section("density", "Density, layer by layer", layers),
            Section("groups", "Groups of layers", (_table(methods), note)),
            Section("overlap", "Overlap", (Words(told), *overlap)),
        ),
    )
    return to_html(document)


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


def _table(methods: dict[str, Any]) -> Table:
    groups = list(next(iter(methods.values()))["groups"])
    columns = (
        Column("method", "method", words=True),
        Column("seconds", "seconds", number),
        Column("density", "density", percent),
        Column("FLOP density", "flop_density", percent),
        *(
            Column(f"{group}, {word}", f"{group}_{key}", percent)
            for group in groups
            for word, key in (("density", "density"), ("FLOPs", "flop_density"))
        ),
        Column("collapsed", "collapsed_layers"),
        Column("empty channels", "empty_channels"),
    )
    rows = tuple(
        (
            name,
            *(row[key] for key in ("seconds", "density", "flop_density")),
            *(row["groups"][group][key] for group in groups for key in ("density", "flop_density")),
            row["collapsed_layers"],
            row["empty_channels"],
        )
        for name, row in methods.items()
    )
    return Table("methods", "Methods", columns, rows)
