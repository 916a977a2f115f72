"""The tables of several runs: one row a run, one row a setting that differs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ntksap_export.report.cells import (
    engine_cell,
    headline_pair,
    measured_cells,
    p50,
    prominence,
    pruned_of,
    ratio_of,
    setting_of,
)
from ntksap_export.report.document import Column, Json, Table, plain
from ntksap_export.report.facts import environment_rows
from ntksap_export.report.inputs import ReportInput, at
from ntksap_export.report.text import count, number, percent, size
from ntksap_export.report.verdict import accuracy_interval, dense_file, sparsity_of

if TYPE_CHECKING:
    from ntksap_export.report.runs import Run

_COLUMNS = (
    Column("run", "run", words=True),
    Column("model", "model", words=True),
    Column("data", "data", words=True),
    Column("method", "method", words=True),
    Column("pattern", "pattern", words=True),
    Column("sparsity", "sparsity", percent),
    Column("FLOP density", "flop_density", percent),
    Column("weights kept", "kept", count),
    Column("epochs", "epochs"),
    Column("top-1", "accuracy", percent),
    Column("from", "accuracy_low", percent),
    Column("to", "accuracy_high", percent),
    Column("top-1 int8", "accuracy_int8", percent),
    Column("checkpoint", "checkpoint_bytes", size),
    Column("dense checkpoint", "dense_checkpoint_bytes", size),
    Column("model.onnx", "onnx_bytes", size),
    Column("int8 graph", "int8_bytes", size),
    Column("engine's graph", "engine_bytes", size),
    Column("p50 ms", "p50_ms", number),
    Column("from", "p50_low_ms", number),
    Column("to", "p50_high_ms", number),
    Column("dense p50 ms", "dense_p50_ms", number),
    Column("ratio", "ratio", number),
    Column("from", "ratio_low", number),
    Column("to", "ratio_high", number),
    Column("engine p50 ms", "engine_p50_ms", number),
    Column("engine ratio", "engine_ratio", number),
    Column("peak RSS", "run_peak_rss_bytes", size),
    Column("measured in", "setting", words=True),
    Column("machine", "machine", words=True),
)


def table(runs: Sequence[Run]) -> Table:
    """One row a run; machines are named A, B ... in their order."""
    machines = list(dict.fromkeys(run.machine for run in runs if run.machine))
    rows = []
    for run in runs:
        letter = chr(ord("A") + machines.index(run.machine) % 26) if run.machine else None
        values = _values(run, run.data) | {"machine": letter}
        rows.append(tuple(values.get(column.key) for column in _COLUMNS))
    caption = "Latency of the setting that a reader asks for first; only those of one machine may be compared"
    return Table("runs", caption, _COLUMNS, tuple(rows)).without_empty()


def _values(run: Run, data: ReportInput) -> Json:
    low, high = accuracy_interval(data)
    cell, pair = headline_cell(data), headline_pair(data.profile, pruned_of(data))
    ratio = ratio_of(cell, data.profile) if cell else None
    ends = (at(cell, "median_ci_ms") or (None, None)) if cell else (None, None)
    table_ = at(data.mask, "table", default={})
    return {
        "run": run.name,
        "model": at(data.config, "architecture"),
        "data": at(data.config, "data", "name"),
        "method": at(data.mask, "method"),
        "pattern": at(data.mask, "pattern"),
        "sparsity": sparsity_of(data),
        "flop_density": at(table_, "flop_density"),
        "kept": at(table_, "kept"),
        "epochs": at(data.metrics, "epochs"),
        "accuracy": run.accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "accuracy_int8": run.accuracy_in("int8"),
        "checkpoint_bytes": data.sizes.get("model.safetensors"),
        "dense_checkpoint_bytes": data.sizes.get(dense_file(data.sizes) or ""),
        "onnx_bytes": data.sizes.get("model.onnx"),
        "int8_bytes": data.sizes.get("model.int8.onnx"),
        "engine_bytes": data.sizes.get("model.sparse.onnx"),
        "p50_ms": p50(cell),
        "p50_low_ms": ends[0],
        "p50_high_ms": ends[1],
        "dense_p50_ms": p50(pair.dense) if pair and cell is pair.sparse else None,
        "ratio": ratio.value if ratio else None,
        "ratio_low": ratio.low if ratio else None,
        "ratio_high": ratio.high if ratio else None,
        **_engine_values(data),
        "run_peak_rss_bytes": at(cell, "memory", "run_peak_rss_bytes"),
        "setting": setting_of(cell).label if cell else None,
    }


def _engine_values(data: ReportInput) -> Json:
    """The sparse engine in the setting that a reader asks for first."""
    pair = headline_pair(data.profile, pruned_of(data))
    cell = None if pair is None else engine_cell(data.profile, pair)
    ratio = None if cell is None else ratio_of(cell, data.profile)
    return {"engine_p50_ms": p50(cell), "engine_ratio": None if ratio is None else ratio.value}


def own_cells(data: ReportInput) -> list[Json]:
    """The measured cells of the run's own network: those of the dense one only where that is all there is."""
    cells = measured_cells(data.profile)
    return [cell for cell in cells if at(cell, "variant") != "dense"] or cells


def headline_cell(data: ReportInput) -> Json | None:
    """The cell of the run's own network that a reader asks for first; the sparse engine's has columns of its own."""
    cells = [cell for cell in own_cells(data) if at(cell, "variant") != "engine"]
    return min(cells, key=lambda cell: prominence(setting_of(cell)), default=None)


def differences(runs: Sequence[Run]) -> Table:
    """Resolved settings that are not the same in every run."""
    flags = [at(run.data.config, "ntksap", "config", default={}) for run in runs]
    names = dict.fromkeys(name for settings in flags for name in settings)
    rows: list[tuple[Any, ...]] = []
    for name in names:
        values = [plain(settings.get(name)) for settings in flags]
        if len(set(values)) > 1:
            rows.append((name, *values))
    return Table("settings", "Settings that differ", _named("setting", runs), tuple(rows))


def environments(runs: Sequence[Run]) -> Table:
    """What each profile says of its machine and its versions."""
    told = [dict(environment_rows(run.data.profile, {})) for run in runs]
    names = dict.fromkeys(name for rows in told for name in rows)
    values = tuple((name, *(rows.get(name) for rows in told)) for name in names)
    return Table("environments", "Machines and versions", _named("what", runs), values)


def _named(first: str, runs: Sequence[Run]) -> tuple[Column, ...]:
    return (Column(first, first, words=True), *(Column(run.name, run.name, words=True) for run in runs))
