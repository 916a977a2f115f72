"""The pictures of an analysis: spectra, singular values, densities, overlap."""

from __future__ import annotations

from collections.abc import Sequence

from ntksap_export.report.charts import figure, whole_percent
from ntksap_export.report.document import Figure
from ntksap_export.report.inputs import Json, at
from ntksap_export.report.plots import (
    Bar,
    Curve,
    Forest,
    Group,
    Row,
    bar_chart,
    forest_chart,
    heat_map,
    linear,
    log,
    plot,
    row_chart,
)
from ntksap_export.report.text import percent, significant

_SERIES = 8
_ALONG = (
    ("ntk", "alignment", "Alignment with the dense kernel at initialization", "centered kernel alignment"),
    ("ntk", "top", "Top eigenvalue of the kernel", "eigenvalue"),
    ("ntk", "effective_rank", "Effective rank of the kernel", "exp of the entropy"),
    ("isometry", "mean", "Mean JSV", "mean of the singular values"),
)


def spectrum_figure(networks: Sequence[Json]) -> Figure | None:
    """Eigenvalue by rank of each network, both axes logarithmic; what is zero is not drawn."""
    curves = []
    for index, network in enumerate(networks):
        values = at(network, "ntk", "eigenvalues", default=[])
        points = tuple((float(rank), float(value)) for rank, value in enumerate(values, 1) if value and value > 0)
        if points:
            curves.append(Curve(str(network["name"]), points, index % _SERIES, dots=False))
    x = log("rank", [x for curve in curves for x, _ in curve.points])
    y = log("eigenvalue", [y for curve in curves for _, y in curve.points], form=significant)
    caption = "Eigenvalues of the kernel, by rank."
    return figure(caption, plot(x, y, curves, label=caption, height=230))


def along_training(networks: Sequence[Json]) -> list[Figure | None]:
    """What changes over the epochs of the run's masked network; nothing without two points."""
    found: list[Figure | None] = []
    for part, key, caption, axis in _ALONG:
        points = tuple(
            (float(network["epoch"]), float(value))
            for network in networks
            if network.get("epoch") is not None and (value := at(network, part, key)) is not None
        )
        if len(points) < 2:
            continue
        curve = Curve("", points, 1, dash="none")
        x = linear("epoch", [x for x, _ in points], whole=True)
        y = linear(axis, [y for _, y in points], form=significant)
        found.append(figure(f"{caption}.", plot(x, y, [curve], label=caption, height=130)))
    return found


def isometry_figure(networks: Sequence[Json]) -> Figure | None:
    """The mean singular value of each network beside 1; a bar from its smallest image to its largest."""
    caption = "Mean singular value, and from the image with the least to that with the most."
    means = [float(network["isometry"]["mean"]) for network in networks]
    if min(means) <= 0:
        bars = tuple(
            Bar(str(network["name"]), mean, significant(mean), index % _SERIES)
            for index, (network, mean) in enumerate(zip(networks, means, strict=True))
        )
        return figure(caption, bar_chart([Group("", bars)], label=caption, axis="mean JSV", tick_format=significant))
    rows = []
    for index, (network, mean) in enumerate(zip(networks, means, strict=True)):
        images = [float(value) for value in at(network, "isometry", "image_means", default=[])]
        low, high = (min(images), max(images)) if images and min(images) > 0 else (None, None)
        name = str(network["name"])
        title = f"{name}: mean {significant(mean)}, spread {significant(network['isometry'].get('spread'))}"
        rows.append(Forest(name, significant(mean), title, mean, low, high, series=index % _SERIES))
    return figure(caption, forest_chart([("", rows)], label=caption, axis="mean JSV"))


def layer_isometry_figures(networks: Sequence[Json]) -> list[Figure | None]:
    """Mean singular value of each layer; the dense network at initialization is the outline."""
    dense = _means(networks[0])
    shown = [network for network in networks[1:] if network["state"] != "training"] or [networks[0]]
    found = []
    for network in shown:
        outlined = network is not networks[0]
        caption = (
            f"Mean singular value of each layer: {network['name']}{'. The outline is dense.' if outlined else '.'}"
        )
        rows = [
            Row(
                _short(name),
                mean,
                dense.get(name, 0.0),
                significant(mean),
                f"{name}: {significant(mean)}, dense {significant(dense.get(name))}",
            )
            for name, mean in _means(network).items()
        ]
        found.append(figure(caption, row_chart(rows, label=caption, axis="mean singular value")))
    return found


def _means(network: Json) -> dict[str, float]:
    return {str(layer["name"]): float(layer["mean"]) for layer in at(network, "isometry", "layers", default=[])}


def layer_density_figures(networks: Sequence[Json]) -> list[Figure | None]:
    """Density of each layer of each mask; the outline is what ERK would keep of it."""
    found: list[Figure | None] = []
    for network in networks:
        layers = at(network, "structure", "layers", default=[])
        if network["density"] == 1.0:
            continue
        caption = f"Density of each layer: {network['name']}. The outline is ERK's."
        rows = [
            Row(
                _short(str(layer["name"])),
                float(layer["density"]),
                float(layer["erk_density"]),
                percent(layer["density"]),
                f"{layer['name']}: {percent(layer['density'])}, ERK {percent(layer['erk_density'])}",
            )
            for layer in layers
        ]
        picture = row_chart(rows, label=caption, axis="kept / total weights", tick_format=whole_percent)
        found.append(figure(caption, picture))
    return found


def overlap_figure(pairs: Sequence[Json]) -> Figure | None:
    """Masks by masks."""
    names = list(dict.fromkeys(str(pair[side]) for pair in pairs for side in ("first", "second")))
    shares = {(pair["first"], pair["second"]): float(pair["jaccard"]) for pair in pairs}
    grid = [
        [1.0 if one == other else shares.get((one, other), shares.get((other, one), 0.0)) for other in names]
        for one in names
    ]
    return figure("Overlap in percent.", heat_map(names, names, grid, label="overlap of masks"))


def _short(name: str) -> str:
    return name.removesuffix(".weight")
