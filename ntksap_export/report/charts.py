"""The pictures of training, mask and files: which numbers of a run go where."""

from __future__ import annotations

import math

from ntksap_export.report.cells import name_of, pruned_of, series_of, spots
from ntksap_export.report.document import Figure
from ntksap_export.report.inputs import Json, ReportInput, at
from ntksap_export.report.plots import Bar, Curve, Group, Row, bar_chart, linear, plot, row_chart
from ntksap_export.report.text import count, number, percent, short_count, size


def history(metrics: Json, key: str, caption: str, y_name: str, scale: float = 1.0) -> Figure | None:
    """Train and validation of `key` (`accuracy` or `loss`) over epochs."""
    rows = at(metrics, "history", default=[])
    curves = [
        Curve(name, points(rows, f"{prefix}_{key}", scale), series)
        for series, (name, prefix) in enumerate((("train", "train"), ("validation", "val")))
    ]
    return learning(curves, caption, y_name)


def points(rows: list[Json], key: str, scale: float) -> tuple[tuple[float, float], ...]:
    """(epoch, value) of each row that has both."""
    pairs = ((at(row, "epoch", default=math.nan), at(row, key, default=math.nan)) for row in rows)
    return tuple((float(x), scale * float(y)) for x, y in pairs if math.isfinite(x) and math.isfinite(y))


def learning(curves: list[Curve], caption: str, y_name: str) -> Figure | None:
    """Curves over epochs; None without a point."""
    drawn = [curve for curve in curves if curve.points]
    x = linear("epoch", [x for curve in drawn for x, _ in curve.points], whole=True)
    y = linear(y_name, [y for curve in drawn for _, y in curve.points])
    return figure(caption, plot(x, y, drawn, label=caption))


def layer_figures(mask: Json) -> list[Figure | None]:
    """Density and FLOP share, layer by layer."""
    rows = at(mask, "table", "rows", default=[])
    macs = sum(at(row, "macs", default=0) for row in rows) or 1
    density = "Density per layer. The outline is the dense layer."
    share = "FLOP share per layer: filled, of the MACs that are left; outline, of the dense network's MACs."
    axis = "kept / total weights"
    return [
        figure(
            density, row_chart([_density_row(row) for row in rows], label=density, axis=axis, tick_format=whole_percent)
        ),
        figure(
            share,
            row_chart(
                [_flop_row(r, macs) for r in rows], label=share, axis="share of all MACs", tick_format=whole_percent
            ),
        ),
    ]


def whole_percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"


def layer_name(row: Json) -> str:
    return str(at(row, "name", default="unnamed")).removesuffix(".weight")


def _density_row(row: Json) -> Row:
    density = float(at(row, "density", default=0.0))
    kept, weights = count(at(row, "kept")), count(at(row, "weights"))
    title = f"{at(row, 'name')}: {kept} of {weights} weights, {percent(density)}"
    return Row(layer_name(row), density, 1.0, percent(density), title)


def _flop_row(row: Json, macs: int) -> Row:
    share, dense = float(at(row, "flop_share", default=0.0)), at(row, "macs", default=0) / macs
    left, all_ = short_count(at(row, "kept_macs")), short_count(at(row, "macs"))
    title = f"{at(row, 'name')}: {left} of {all_} MACs; share {percent(share)}, dense {percent(dense)}"
    return Row(layer_name(row), share, dense, percent(share), title)


def bytes_tick(value: float) -> str:
    return "0" if not value else size(value).replace(".00 ", " ").replace(".0 ", " ")


def sizes_figure(data: ReportInput) -> Figure | None:
    """Files of the run, the dense counterpart among them."""
    caption = "Bytes per file of this run, against the dense counterpart."
    groups = [
        Group(name, (Bar("", float(value), size(value), 0 if name.startswith("dense") else 1),))
        for name, value in data.sizes.items()
    ]
    return figure(caption, bar_chart(groups, label=caption, axis="size on disk", tick_format=bytes_tick))


MEMORY = (
    ("load_delta_bytes", "Load delta: RSS after loading the model - RSS before."),
    ("run_peak_rss_bytes", "Peak RSS of the whole process while running."),
    ("activation_peak_bytes", "Activation peak: the most that the graph's intermediate tensors take at once."),
    ("peak_cuda_allocated_bytes", "Peak CUDA allocated while running."),
)


def memory_figures(data: ReportInput) -> list[Figure | None]:
    """What is known of MEMORY, of every cell; activations stand with the layers of a profile."""
    made: list[Figure | None] = []
    for key, caption in MEMORY:
        groups = []
        for spot, cells in spots(data.profile).items():
            values = [(cell, memory_of(data.profile, cell, key)) for cell in cells]
            bars = tuple(
                Bar(name_of(cell, pruned_of(data)), value, size(value), series_of(cell))
                for cell, value in values
                if value is not None
            )
            groups += [Group(f"{spot.backend}, {spot.device}, {spot.load}", bars)] if bars else []
        made.append(figure(caption, bar_chart(groups, label=caption, axis="bytes", tick_format=bytes_tick)))
    return made


def memory_of(profile: Json, cell: Json, key: str) -> float | None:
    """A number of bytes of a cell, None where it was not measured."""
    if key == "activation_peak_bytes":
        names = ("variant", "backend", "device", "precision", "batch", "threads")
        same = (e for e in at(profile, "layers", default=[]) if all(e.get(name) == cell.get(name) for name in names))
        value = next((at(entry, key) for entry in same), None)
    else:
        value = at(cell, "memory", key)
    return None if value is None else float(value)


def throughput_figure(data: ReportInput) -> Figure | None:
    """Images per second of every cell."""
    groups = []
    for spot, cells in spots(data.profile).items():
        rates = ((cell, at(cell, "throughput_images_per_s")) for cell in cells)
        bars = tuple(
            Bar(name_of(cell, pruned_of(data)), float(rate), number(rate), series_of(cell))
            for cell, rate in rates
            if rate
        )
        groups += [Group(f"{spot.backend}, {spot.device}, {spot.load}", bars)] if bars else []
    caption = "Throughput, more is better."
    return figure(caption, bar_chart(groups, label=caption, axis="images/s"))


def figure(caption: str, picture: str) -> Figure | None:
    return Figure(caption, picture) if picture else None
