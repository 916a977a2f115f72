"""Several runs side by side: what each reached, what it costs, and which of their latencies may be compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ntksap_export.report import run_rows
from ntksap_export.report.cells import measured_cells, name_of, p50, pruned_of, setting_of
from ntksap_export.report.charts import figure, layer_name, learning, points
from ntksap_export.report.document import (
    Bullets,
    Document,
    Figure,
    Part,
    Section,
    Words,
    figures,
)
from ntksap_export.report.inputs import Json, ReportInput, at
from ntksap_export.report.plots import Curve, Strip, heat_map, strip_chart
from ntksap_export.report.sweep import LATENCY, MEMORY
from ntksap_export.report.text import milliseconds, number, percent, plural, size
from ntksap_export.report.tradeoff import Measure, Point, tradeoff
from ntksap_export.report.verdict import accuracy_interval

_MACHINE = ("cpu", "cores", "gpu", "governor")


@dataclass(frozen=True, slots=True)
class Run:
    """One run and what it is called here."""

    name: str
    data: ReportInput

    @property
    def accuracy(self) -> float | None:
        value = at(self.data.metrics, "final", "val_accuracy")
        return None if value is None else float(value)

    def accuracy_in(self, precision: str) -> float | None:
        """Of the graph in a precision; what was not judged is not known."""
        if precision == "fp32":
            return self.accuracy
        value = at(self.data.parity, "precisions", precision, "accuracy", "after")
        return None if value is None else float(value)

    @property
    def machine(self) -> tuple[str, ...]:
        """What must be the same for latencies to be compared; empty where nothing is known of it."""
        environment = at(self.data.profile, "environment", default={})
        return tuple(str(at(environment, key)) for key in _MACHINE) if environment else ()


def compare_runs(runs: Sequence[Run]) -> Document:
    """The page of two or more runs; the first one's machine is that on which latencies are compared."""
    here = [run for run in runs if run.machine and run.machine == runs[0].machine]
    table = run_rows.table(runs)
    return Document(
        kicker="ntksap-export comparison of runs",
        title=f"{plural(len(runs), 'run')}: {', '.join(run.name for run in runs)}",
        lines=(
            ("Most accurate", _most_accurate(runs)),
            ("Fastest", _fastest(here)),
            ("Smallest", _smallest(runs)),
        ),
        sections=(
            Section("side", "Side by side", (table,)),
            Section("accuracy", "Accuracy", _accuracy(runs)),
            Section("tradeoffs", "Accuracy against cost", _tradeoffs(runs, here)),
            Section("latency", "Latency", _latency(runs)),
            Section("density", "Density, layer by layer", _density(runs)),
            Section("settings", "Settings that differ", _settings(runs)),
            Section("environment", "Environment", (run_rows.environments(runs),)),
        ),
    )


def _most_accurate(runs: Sequence[Run]) -> str:
    known = [run for run in runs if run.accuracy is not None]
    if not known:
        return "Accuracy was not measured."
    best = max(known, key=lambda run: run.accuracy or 0.0)
    low, high = accuracy_interval(best.data)
    interval = f", 95 % interval {percent(low)} to {percent(high)}" if low is not None else ""
    sources = {str(at(run.data.config, "data", "name")) for run in known}
    doubt = " The runs were validated on different data." if len(sources) > 1 else ""
    rivals = [r.name for r in known if r is not best and (accuracy_interval(r.data)[1] or 0.0) >= (low or 2.0)]
    same = f" The intervals of {', '.join(rivals)} overlap it." if rivals else ""
    return f"{best.name}: {percent(best.accuracy)}{interval}.{same}{doubt}"


def _fastest(here: Sequence[Run]) -> str:
    found = [(run, cell) for run in here if (cell := run_rows.headline_cell(run.data))]
    settings = {setting_of(cell) for _, cell in found}
    if len(found) < 2 or len(settings) > 1:
        return "The runs share no setting in which each was measured on one machine."
    run, cell = min(found, key=lambda pair: p50(pair[1]) or 0.0)
    return f"{run.name}: {milliseconds(p50(cell))} ({setting_of(cell).label})."


def _smallest(runs: Sequence[Run]) -> str:
    known = [(run, run.data.sizes.get("model.safetensors")) for run in runs]
    sized = [(run, value) for run, value in known if value]
    if not sized:
        return "No checkpoint was written."
    run, value = min(sized, key=lambda pair: pair[1])
    return f"{run.name}: its checkpoint takes {size(value)}."


def _accuracy(runs: Sequence[Run]) -> tuple[Part, ...]:
    curves = [
        Curve(run.name, points(at(run.data.metrics, "history", default=[]), "val_accuracy", 100), series)
        for series, run in enumerate(runs)
    ]
    losses = [
        Curve(run.name, points(at(run.data.metrics, "history", default=[]), "val_loss", 1), series)
        for series, run in enumerate(runs)
    ]
    made = figures(
        learning(curves, "Top-1 accuracy on the validation images by epoch.", "top-1 accuracy, %"),
        learning(losses, "Loss on the validation images by epoch.", "cross-entropy, nats"),
    )
    return made or (Words("No run was trained.", "absent"),)


def _tradeoffs(runs: Sequence[Run], here: Sequence[Run]) -> tuple[Part, ...]:
    by_place: dict[str, list[Point]] = {}
    for run in here:
        for cell in run_rows.own_cells(run.data):
            setting = setting_of(cell)
            where = f"{setting.backend}, {setting.device}, {setting.load}"
            by_place.setdefault(where, []).append(_point(run, cell))
    made: list[Figure | None] = []
    names = [run.name for run in runs]
    for where, found in by_place.items():
        made += [tradeoff(found, measure, where=where, series=names) for measure in (LATENCY, MEMORY)]
    sized = [
        Point(run.name, "fp32", run.name, _title(run, value), run.accuracy, {"size": float(value)})
        for run in runs
        if (value := run.data.sizes.get("model.safetensors"))
    ]
    made.append(tradeoff(sized, _CHECKPOINT, where="", series=names))
    return (*_machines(runs), *(figures(*made) or (Words("Nothing has both numbers.", "absent"),)))


_CHECKPOINT = Measure("size", "size of the checkpoint, MB", 1e-6, size)


def _title(run: Run, value: float) -> str:
    return f"{run.name}: accuracy {percent(run.accuracy)}, {size(value)}"


def _point(run: Run, cell: Json) -> Point:
    setting, interval = setting_of(cell), at(cell, "median_ci_ms")
    accuracy = run.accuracy_in(setting.precision)
    costs = {"latency": p50(cell), "memory": at(cell, "memory", "run_peak_rss_bytes")}
    graph = "sparse engine" if at(cell, "variant") == "engine" else setting.precision
    title = f"{run.name}, {graph}: accuracy {percent(accuracy)}, {milliseconds(p50(cell))}"
    spread = (float(interval[0]), float(interval[1])) if interval else None
    return Point(run.name, graph, run.name, title, accuracy, costs, spread)


def _machines(runs: Sequence[Run]) -> tuple[Part, ...]:
    """Which runs are left out of what compares latencies, and what else may spoil it."""
    said = []
    for run in runs:
        if run.machine and run.machine != runs[0].machine:
            said.append(f"{run.name} was measured on another machine ({run.machine[0]}): its latency is not compared.")
        elif not run.machine:
            said.append(f"{run.name} has no profile.")
    for library in ("onnxruntime", "torch", "openvino"):
        versions = {str(v) for run in runs if (v := at(run.data.profile, "environment", "versions", library))}
        if len(versions) > 1:
            said.append(f"The runs were measured with different versions of {library}: {', '.join(sorted(versions))}.")
    return (Bullets(tuple(said), advice=True),) if said else ()


def _latency(runs: Sequence[Run]) -> tuple[Part, ...]:
    machines = dict.fromkeys(run.machine for run in runs if run.machine)
    made = []
    for machine in machines:
        where = machine[0] if len(machines) > 1 else ""
        made += _latency_on([(i, run) for i, run in enumerate(runs) if run.machine == machine], where)
    note = "Rows are runs; dense is the dense network that each run was measured beside."
    drawn = figures(*made)
    return (Words(note, "note"), *drawn) if drawn else (Words("No run was profiled.", "absent"),)


def _latency_on(runs: Iterable[tuple[int, Run]], where: str) -> list[Figure | None]:
    scales: dict[tuple[str, int], dict[str, list[Strip]]] = {}
    for series, run in runs:
        for cell in measured_cells(run.data.profile):
            setting = setting_of(cell)
            groups = scales.setdefault((setting.device, setting.batch), {})
            groups.setdefault(f"{setting.spot_words}, {setting.precision}", []).append(_strip(run, cell, series))
    made = []
    for (device, batch), groups in scales.items():
        on = f"{device}, {where}" if where else device
        caption = f"Latency on {on} at batch {batch}: p50, thin marks p90 and p99."
        made.append(figure(caption, strip_chart(list(groups.items()), label=caption, axis="ms per run")))
    return made


def _strip(run: Run, cell: Json, series: int) -> Strip:
    known, interval = at(cell, "latency_ms", default={}), at(cell, "median_ci_ms")
    variant = str(at(cell, "variant", default=""))
    dense, name = variant == "dense", f"{run.name} {variant}" if variant in ("dense", "engine") else run.name
    title = f"{name}, {name_of(cell, pruned_of(run.data))}: p50 {milliseconds(p50(cell))}"
    ends: Any = tuple(map(float, interval)) if interval else None
    p90, p99 = (None if at(known, key) is None else float(known[key]) for key in ("p90", "p99"))
    return Strip(
        name, number(p50(cell)), title, p50(cell) or 0.0, p90, p99, interval=ends, series=7 if dense else series
    )


def _density(runs: Sequence[Run]) -> tuple[Part, ...]:
    tables = {run.name: {layer_name(row): float(at(row, "density", default=0.0)) for row in _rows(run)} for run in runs}
    first = next((layers for layers in tables.values() if layers), {})
    same = {name: layers for name, layers in tables.items() if list(layers) == list(first)}
    if not first:
        return (Words("No run has a mask.", "absent"),)
    shares = [[layers[layer] for layers in same.values()] for layer in first]
    caption = "Density of each layer, in percent: kept / total weights."
    map_ = figures(Figure(caption, heat_map(list(first), list(same), shares, label=caption)))
    others = [name for name in tables if name not in same]
    note = f"Without {', '.join(others)}: other layers." if others else ""
    return (*map_, *((Words(note, "note"),) if note else ()))


def _rows(run: Run) -> list[Json]:
    return list(at(run.data.mask, "table", "rows", default=[]))


def _settings(runs: Sequence[Run]) -> tuple[Part, ...]:
    table = run_rows.differences(runs)
    return (table,) if table.rows else (Words("There are none."),)
