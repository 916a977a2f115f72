"""The charts of a report: which numbers of a run go into which picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ntksap_export.report import svg
from ntksap_export.report.cells import Pair, pair_cells
from ntksap_export.report.inputs import Json, ReportInput, at
from ntksap_export.report.text import count, milliseconds, number, percent, short_count, size


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture and the words under it; `picture` is markup."""

    caption: str
    picture: str


def history(metrics: Json, key: str, caption: str, y_name: str, scale: float = 1.0) -> Figure | None:
    """Train and validation of `key` (`accuracy` or `loss`) over epochs."""
    rows = at(metrics, "history", default=[])
    lines = [
        svg.Line(name, tuple(_point(row, f"{prefix}_{key}", scale) for row in rows))
        for name, prefix in (("train", "train"), ("validation", "val"))
    ]
    picture = svg.line_chart(lines, label=caption, x_name="epoch", y_name=y_name, y_format="{:,g}".format)
    return _figure(caption, picture)


def _point(row: Json, key: str, scale: float) -> tuple[float, float]:
    value = at(row, key)
    return float(at(row, "epoch", default=math.nan)), math.nan if value is None else scale * float(value)


def layer_figures(mask: Json) -> list[Figure]:
    """Density and FLOP share, layer by layer."""
    rows = at(mask, "table", "rows", default=[])
    macs = sum(at(row, "macs", default=0) for row in rows) or 1
    figures = (
        _figure(
            "Density per layer: kept / total weights. The outline is the dense layer.",
            svg.row_chart([_density_row(row) for row in rows], label="density per layer", tick_format=_whole_percent),
        ),
        _figure(
            "FLOP share per layer: filled, of the MACs that are left; outline, of the dense network's MACs.",
            svg.row_chart(
                [_flop_row(row, macs) for row in rows],
                label="FLOP share per layer",
                tick_format=_whole_percent,
            ),
        ),
    )
    return [figure for figure in figures if figure]


def _whole_percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"


def layer_name(row: Json) -> str:
    return str(at(row, "name", default="unnamed")).removesuffix(".weight")


def _density_row(row: Json) -> svg.Row:
    density = float(at(row, "density", default=0.0))
    kept, weights = count(at(row, "kept")), count(at(row, "weights"))
    title = f"{at(row, 'name')}: {kept} of {weights} weights, {percent(density)}"
    return svg.Row(layer_name(row), density, 1.0, percent(density), title)


def _flop_row(row: Json, macs: int) -> svg.Row:
    share, dense = float(at(row, "flop_share", default=0.0)), at(row, "macs", default=0) / macs
    left, all_ = short_count(at(row, "kept_macs")), short_count(at(row, "macs"))
    title = f"{at(row, 'name')}: {left} of {all_} MACs; share {percent(share)}, dense {percent(dense)}"
    return svg.Row(layer_name(row), share, dense, percent(share), title)


def latency_figures(profile: Json, pruned: str = "sparse") -> list[Figure]:
    """One chart per device and batch, since their scales differ: p50, with whiskers to p90 and p99."""
    scales: dict[tuple[str, int], list[Pair]] = {}
    for pair in pair_cells(profile, pruned):
        scales.setdefault((pair.setting.device, pair.setting.batch), []).append(pair)
    figures = []
    for (device, batch), pairs in scales.items():
        caption = f"Latency on {device} at batch {batch}: p50, whiskers to p90 and p99."
        figures.append(_bars(pairs, caption, "ms per run", _latency_bar, "{:,g}".format, _without_batch))
    return [figure for figure in figures if figure]


def _without_batch(pair: Pair) -> str:
    setting, threads = pair.setting, pair.setting.load.partition(", ")[2]
    return ", ".join(part for part in (setting.backend, setting.precision, threads) if part)


def _latency_bar(cell: Json, variant: str, series: int) -> svg.Bar | None:
    times = at(cell, "latency_ms", default={})
    if (p50 := at(times, "p50")) is None:
        return None
    whiskers = tuple(float(times[key]) for key in ("p90", "p99") if at(times, key) is not None)
    return svg.Bar(variant, float(p50), milliseconds(p50), series, whiskers)


def throughput_figure(profile: Json, pruned: str = "sparse") -> Figure | None:
    return _bars(
        pair_cells(profile, pruned),
        "Throughput, from p50.",
        "images/s",
        _throughput_bar,
        "{:,g}".format,
        _whole_setting,
    )


def _throughput_bar(cell: Json, variant: str, series: int) -> svg.Bar | None:
    value = at(cell, "throughput_images_per_s")
    return None if value is None else svg.Bar(variant, float(value), number(value), series)


def memory_figures(profile: Json, pruned: str = "sparse") -> list[Figure]:
    """Load delta and peak of the resident set, and what CUDA allocated where a cell says so."""
    figures, pairs = [], pair_cells(profile, pruned)
    for key, caption in (
        ("load_delta_bytes", "Load delta: RSS after loading the model - RSS before."),
        ("run_peak_rss_bytes", "Peak RSS of the whole process while running."),
        ("peak_cuda_allocated_bytes", "Peak CUDA allocated while running."),
    ):
        figures.append(_bars(pairs, caption, "bytes", _memory_bar(key), _bytes_tick, _whole_setting))
    return [figure for figure in figures if figure]


def _bytes_tick(value: float) -> str:
    return "0" if not value else size(value).replace(".00 ", " ").replace(".0 ", " ")


def _memory_bar(key: str) -> Callable[[Json, str, int], svg.Bar | None]:
    def bar(cell: Json, variant: str, series: int) -> svg.Bar | None:
        value = at(cell, "memory", key)
        return None if value is None else svg.Bar(variant, float(value), size(value), series)

    return bar


def _whole_setting(pair: Pair) -> str:
    return pair.setting.label


def _bars(
    pairs: Sequence[Pair],
    caption: str,
    axis: str,
    bar: Callable[[Json, str, int], svg.Bar | None],
    tick_format: svg.Format,
    heading: Callable[[Pair], str],
) -> Figure | None:
    groups = []
    for pair in pairs:
        cells = (("dense", pair.dense), (pair.pruned, pair.sparse))
        bars = (bar(cell, variant, index) for index, (variant, cell) in enumerate(cells) if cell)
        if made := tuple(b for b in bars if b):
            groups.append(svg.Group(heading(pair), made))
    return _figure(caption, svg.bar_chart(groups, label=caption, axis=axis, tick_format=tick_format))


def sizes_figure(data: ReportInput) -> Figure | None:
    groups = [
        svg.Group(name, (svg.Bar("", float(value), size(value), 0 if name.startswith("dense") else 1),))
        for name, value in data.sizes.items()
    ]
    caption = "Bytes per file of this run, against the dense counterpart."
    return _figure(caption, svg.bar_chart(groups, label=caption, axis="bytes", tick_format=_bytes_tick))


def _figure(caption: str, picture: str) -> Figure | None:
    return Figure(caption, picture) if picture else None
