"""The tables of a report, as values with units in the names of their columns."""

from __future__ import annotations

import re
from typing import Any

from ntksap_export.report.cells import (
    measured_cells,
    ordered_cells,
    pruned_of,
    ratio_of,
    setting_of,
    skipped_cells,
    variant_of,
)
from ntksap_export.report.charts import MEMORY, layer_name, memory_of
from ntksap_export.report.document import Column, Table, in_a_line, plain
from ntksap_export.report.inputs import Json, ReportInput, at
from ntksap_export.report.text import ABSENT, count, number, percent, short_count, size

_PERCENTILE = re.compile(r"p\d+(\.\d+)?")
_SETTING = (
    Column("backend", "backend", words=True),
    Column("device", "device", words=True),
    Column("precision", "precision", words=True),
    Column("batch", "batch"),
    Column("threads", "threads"),
    Column("streams", "streams"),
    Column("variant", "variant", words=True),
)


def _setting(cell: Json, pruned: str) -> tuple[Any, ...]:
    s = setting_of(cell)
    streams = s.streams if s.streams != 1 else None  # the usual one needs no column
    return (s.backend, s.device, s.precision, s.batch, s.threads, streams, variant_of(cell, pruned, ABSENT))


def cell_words(cell: Json, data: ReportInput) -> str:
    """Which cell it is, in words."""
    return f"{variant_of(cell, pruned_of(data), '')} {setting_of(cell).label}".strip()


def layer_table(mask: Json) -> Table:
    """One row a prunable layer."""
    columns = (
        Column("layer", "layer", words=True),
        Column("shape", "shape", lambda shape: " × ".join(plain(side) for side in shape), words=True),
        Column("weights", "weights", count),
        Column("kept", "kept", count),
        Column("density", "density", percent),
        Column("MACs", "macs", short_count),
        Column("kept MACs", "kept_macs", short_count),
        Column("FLOP share", "flop_share", percent),
    )
    rows = at(mask, "table", "rows", default=[])
    values = tuple(
        (layer_name(row), at(row, "shape", default=[]), *(at(row, column.key) for column in columns[2:]))
        for row in rows
    )
    return Table("layers", f"Layers ({len(rows)})", columns, values)


def history_table(metrics: Json) -> Table:
    """One row an epoch."""
    columns = (
        Column("epoch", "epoch"),
        Column("train accuracy", "train_accuracy", percent),
        Column("validation accuracy", "val_accuracy", percent),
        Column("train loss", "train_loss", number),
        Column("validation loss", "val_loss", number),
        Column("learning rate", "lr", plain),
        Column("seconds", "seconds", number),
        Column("images/s", "images_per_s", number),
    )
    rows = at(metrics, "history", default=[])
    values = tuple(tuple(at(row, column.key) for column in columns) for row in rows)
    return Table("training", "Epochs", columns, values).without_empty()


def latency_table(data: ReportInput) -> Table:
    """One row a measured cell: percentiles, interval, ratio to its baseline, doubts."""
    cells, pruned = ordered_cells(data.profile), pruned_of(data)
    keys = dict.fromkeys(
        key for cell in cells for key in at(cell, "latency_ms", default={}) if _PERCENTILE.fullmatch(key)
    )
    asked = sorted(keys, key=lambda key: float(key[1:]))
    columns = (
        *_SETTING,
        Column("p50 ms", "p50_ms", number),
        Column("from", "p50_low_ms", number),
        Column("to", "p50_high_ms", number),
        Column("ratio", "ratio", number),
        Column("from", "ratio_low", number),
        Column("to", "ratio_high", number),
        *(Column(f"{key} ms", f"{key}_ms", number) for key in asked if key != "p50"),
        Column("mean ms", "mean_ms", number),
        Column("IQR ms", "iqr_ms", number),
        Column("images/s", "throughput_images_per_s", number),
        Column("runs", "runs"),
        Column("turns", "slices"),
        Column("J/image", "joules_per_image", number),
        Column("noise", "noise", words=True),
    )
    rows = []
    for cell in cells:
        known, ratio = at(cell, "latency_ms", default={}), ratio_of(cell, data.profile)
        interval = tuple(at(cell, "median_ci_ms") or (None, None))
        others = tuple(known.get(key) for key in asked if key != "p50")
        ratios = (ratio.value, ratio.low, ratio.high) if ratio else (None, None, None)
        facts = (at(cell, "throughput_images_per_s"), at(cell, "runs"), at(cell, "slices"))
        times = (known.get("p50"), *interval, *ratios, *others, known.get("mean"), known.get("iqr"))
        doubts = (at(cell, "energy", "joules_per_image"), at(cell, "noise"))
        rows.append((*_setting(cell, pruned), *times, *facts, *doubts))
    caption = "Latency; from and to are the ends of the 95 % interval of p50, and of the ratio to the baseline"
    return Table("latency", caption, columns, tuple(rows)).without_empty()


def memory_table(data: ReportInput) -> Table:
    """One row a cell whose memory is known."""
    keys = ("baseline_rss_bytes", "load_delta_bytes", "run_peak_rss_bytes", "run_peak_delta_bytes")
    others = [key for key, _ in MEMORY if key not in keys]
    columns = (
        *_SETTING,
        *(
            Column(key.removesuffix("_bytes").replace("_", " ").replace("rss", "RSS"), key, size)
            for key in (*keys, *others)
        ),
        Column("file", "file_bytes", size),
        Column("arena settings", "arena_settings", in_a_line, words=True),
    )
    rows = []
    for cell in ordered_cells(data.profile):
        values = tuple(at(cell, "memory", key) for key in keys)
        rest = tuple(memory_of(data.profile, cell, key) for key in others)
        if any(value is not None for value in (*values, *rest)):
            settings = at(cell, "memory", "settings")
            rows.append((*_setting(cell, pruned_of(data)), *values, *rest, at(cell, "file_bytes"), settings))
    return Table("memory", "Memory of each cell's own process", columns, tuple(rows)).without_empty()


def server_table(data: ReportInput) -> Table | None:
    """One row a cell and rate, of server mode."""
    keys = dict.fromkeys(
        key for cell in measured_cells(data.profile) for row in at(cell, "server", default=[]) for key in row
    )
    columns = (*_SETTING, *(Column(key.replace("_", " "), key, _server_form) for key in keys))
    rows = tuple(
        (*_setting(cell, pruned_of(data)), *(row.get(key) for key in keys))
        for cell in ordered_cells(data.profile)
        for row in at(cell, "server", default=[])
    )
    return Table("server", "Under random arrivals", columns, rows).without_empty() if rows else None


def _server_form(value: Any) -> str:
    return number(value) if isinstance(value, float) else plain(value)


def noise_table(data: ReportInput) -> Table | None:
    """What each verdict of noise rests on, where the profile tells it."""
    return _of_parts(data, "noise_facts", "noise", "What the verdicts of noise rest on")


def gpu_table(data: ReportInput) -> Table | None:
    """Clocks, power and copies to the device, of cells on a GPU."""
    return _of_parts(data, "gpu", "gpu", "The GPU while it was measured; h2d is the copy of a batch to it, apart")


def _of_parts(data: ReportInput, part: str, name: str, caption: str) -> Table | None:
    """One row a cell that has `part`, one column a key of it."""
    cells = [cell for cell in ordered_cells(data.profile) if isinstance(at(cell, part), dict)]
    keys = dict.fromkeys(key for cell in cells for key in cell[part])
    columns = (*_SETTING, *(Column(key.replace("_", " "), key, _fact, words=True) for key in keys))
    rows = tuple((*_setting(cell, pruned_of(data)), *(cell[part].get(key) for key in keys)) for cell in cells)
    return Table(name, caption, columns, rows).without_empty() if rows else None


def _fact(value: Any) -> str:
    return number(value) if isinstance(value, float) else in_a_line(value)


def skipped_table(data: ReportInput) -> Table:
    """(what, why) of every cell that was not measured."""
    rows = tuple(
        (cell_words(cell, data), str(at(cell, "reason", default="no reason given")))
        for cell in skipped_cells(data.profile)
    )
    return Table("skipped", "Skipped", (Column("what", "what", words=True), Column("why", "why", words=True)), rows)


def sizes_table(sizes: dict[str, int]) -> Table:
    """One row a file."""
    columns = (Column("file", "file", words=True), Column("size", "bytes", size))
    return Table("sizes", "Sizes on disk", columns, tuple(sizes.items()))


def parity_table(parity: Json) -> Table:
    """One row a comparison of two sessions."""
    columns = (
        Column("runtime", "runtime", words=True),
        Column("optimization", "optimization", words=True),
        Column("images", "images", words=True),
        Column("output", "output", words=True),
        Column("batch", "batch"),
        *(Column(key.replace("_", " "), key, "{:.1e}".format) for key in ("max_abs", "max_rel", "atol", "rtol")),
        Column("logit scale", "logit_scale", number),
        Column("result", "passed", _passed, words=True),
    )
    checks = at(parity, "checks", default=[])
    rows = tuple((*(at(check, column.key) for column in columns[:-1]), _judged(check)) for check in checks)
    return Table("parity", "Parity", columns, rows)


def _judged(entry: Json) -> bool:
    return bool(at(entry, "passed"))


def _passed(value: Any) -> str:
    return "passed" if value else "FAILED"


def precision_table(parity: Json) -> Table:
    """One row per graph beside model.onnx: what it is, what it costs in accuracy."""
    columns = (
        Column("graph", "graph", words=True),
        Column("size", "bytes", size),
        Column("top-1 before", "before", percent),
        Column("top-1 after", "after", percent),
        Column("same answer", "agreement", percent),
        Column("SQNR of the logits", "sqnr_db", lambda value: f"{number(value)} dB"),
        Column("result", "passed", _passed, words=True),
    )
    rows = []
    for name, entry in at(parity, "precisions", default={}).items():
        judged = tuple(at(entry, "accuracy", key) for key in ("before", "after", "agreement", "sqnr_db"))
        rows.append((str(at(entry, "file", default=name)), at(entry, "bytes"), *judged, _judged(entry)))
    return Table("precision", "Precision", columns, tuple(rows))
