"""Time by layer and the roofline: what the nodes of a graph did, dense beside sparse."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ntksap_export.report.cells import Setting, name_of, prominence, pruned_of, series_of, setting_of
from ntksap_export.report.charts import figure
from ntksap_export.report.document import Column, Figure, Table
from ntksap_export.report.inputs import Json, ReportInput, at
from ntksap_export.report.plots import Curve, Dot, Dots, Row, log, plot, row_chart
from ntksap_export.report.text import milliseconds, number, percent, short_count, size

MOST_ROWS = 40
"""So many layers are drawn, the slowest; the table has all."""
_NODE_KEYS = (
    "node",
    "op",
    "module",
    "ms",
    "share",
    "macs",
    "nonzero_macs",
    "gflops",
    "share_of_peak",
    "bytes",
    "intensity",
)
_ENTRY_KEYS = ("variant", "backend", "device", "precision", "batch", "threads")


@dataclass(slots=True)
class _Layer:
    """One module in one or two entries."""

    ops: Counter[str] = field(default_factory=Counter)
    dense_ms: float | None = None
    sparse_ms: float | None = None
    macs: float = 0.0
    nonzero_macs: float = 0.0

    @property
    def most_ms(self) -> float:
        return max(self.dense_ms or 0.0, self.sparse_ms or 0.0)


def entries(profile: Json) -> list[Json]:
    """The measured layers of each variant, those a reader asks for first in front."""
    told = [entry for entry in at(profile, "layers", default=[]) if at(entry, "nodes")]
    return sorted(told, key=lambda entry: prominence(setting_of(entry)))


def shown(profile: Json) -> tuple[Setting, Json | None, Json | None] | None:
    """The setting to show, and its dense and its sparse entry: complete if there is such a setting."""
    by_setting: dict[Setting, dict[str, Json]] = {}
    for entry in entries(profile):
        by_setting.setdefault(setting_of(entry), {})[str(at(entry, "variant"))] = entry
    pairs = [(s, e.get("dense"), e.get("sparse")) for s, e in by_setting.items() if "dense" in e or "sparse" in e]
    complete = [pair for pair in pairs if None not in pair]
    return next(iter([*complete, *pairs]), None)


def time_figure(data: ReportInput) -> Figure | None:
    """Milliseconds per layer: filled sparse, outline dense."""
    chosen = shown(data.profile)
    if chosen is None:
        return None
    setting, dense, sparse = chosen
    layers = _layers(dense, sparse)
    slowest = sorted(layers, key=lambda name: -layers[name].most_ms)[:MOST_ROWS]
    fine = layers[slowest[0]].most_ms < 1
    rows = [_row(name, layer, 1000 if fine else 1) for name, layer in layers.items() if name in set(slowest)]
    known = (
        "filled: " + pruned_of(data) + "; outline: dense" if dense and sparse else "dense" if dense else pruned_of(data)
    )
    most = f"the {MOST_ROWS} slowest of {len(layers)} layers" if len(layers) > MOST_ROWS else "layer"
    caption = f"Time by {most}, {known}: {setting.label}."
    return figure(caption, row_chart(rows, label=caption, axis="µs per run" if fine else "ms per run"))


def _layers(dense: Json | None, sparse: Json | None) -> dict[str, _Layer]:
    found: dict[str, _Layer] = {}
    for entry, key in ((dense, "dense_ms"), (sparse, "sparse_ms")):
        for node in at(entry, "nodes", default=[]):
            layer = found.setdefault(_layer_of(node), _Layer())
            setattr(layer, key, (getattr(layer, key) or 0.0) + float(at(node, "ms", default=0.0)))
            layer.ops[str(at(node, "op", default="?"))] += 1
            if entry is sparse or sparse is None:
                layer.nonzero_macs += float(at(node, "nonzero_macs", default=0.0))
            if entry is dense or dense is None:
                layer.macs += float(at(node, "macs", default=0.0))
    return found


def _layer_of(node: Json) -> str:
    """The module's name; nodes that belong to none go by their operator."""
    module = at(node, "module")
    return str(module) if module else f"({at(node, 'op', default='other')})"


def _row(name: str, layer: _Layer, scale: float) -> Row:
    dense, sparse = layer.dense_ms, layer.sparse_ms
    value = scale * ((sparse if sparse is not None else dense) or 0.0)
    title = f"{name}: dense {milliseconds(dense)}, sparse {milliseconds(sparse)}"
    return Row(name, value, scale * (dense or 0.0), number(value), title)


def layer_time_table(data: ReportInput) -> Table | None:
    """The numbers of `time_figure`, every layer."""
    chosen = shown(data.profile)
    if chosen is None:
        return None
    setting, dense, sparse = chosen
    columns = (
        Column("layer", "layer", words=True),
        Column("operators", "operators", words=True),
        Column("dense ms", "dense_ms", number),
        Column(f"{pruned_of(data)} ms", "sparse_ms", number),
        Column("ratio", "ratio", number),
        Column("MACs", "macs", short_count),
        Column("nonzero MACs", "nonzero_macs", short_count),
    )
    rows = []
    for name, layer in _layers(dense, sparse).items():
        both = layer.dense_ms and layer.sparse_ms is not None
        ratio = (layer.sparse_ms or 0.0) / layer.dense_ms if both and layer.dense_ms else None
        ops = ", ".join(op if amount == 1 else f"{op} ({amount})" for op, amount in layer.ops.items())
        macs = (layer.macs or None, layer.nonzero_macs or None)
        rows.append((name, ops, layer.dense_ms, layer.sparse_ms, ratio, *macs))
    return Table("layer_time", f"Time by layer: {setting.label}", columns, tuple(rows)).without_empty()


def node_table(profile: Json) -> Table | None:
    """Every node of every entry, for programs."""
    columns = tuple(Column(key.replace("_", " "), key) for key in (*_ENTRY_KEYS, *_NODE_KEYS))
    rows = tuple(
        (*(entry.get(key) for key in _ENTRY_KEYS), *(node.get(key) for key in _NODE_KEYS))
        for entry in entries(profile)
        for node in entry["nodes"]
    )
    return Table("nodes", "Every node of every graph that was timed", columns, rows) if rows else None


def roofline(data: ReportInput) -> Figure | None:
    """Achieved rate against intensity, one dot a node, under what this machine can do at most."""
    chosen = shown(data.profile)
    if chosen is None:
        return None
    setting, *pair = chosen
    machine, key = at(data.profile, "machine", default={}), str(setting.threads)
    peak, bandwidth = at(machine, "peak_gflops", key), at(machine, "bandwidth_gb_s", key)
    groups = [
        Dots(name_of(e, pruned_of(data)), _dots(e), series_of(e), series_of(e), hollow=e.get("variant") != "dense")
        for e in pair
        if e
    ]
    dots = [dot for group in groups for dot in group.dots]
    if not dots:
        return None
    reach = [dot.x for dot in dots]
    if peak and bandwidth:
        reach.append(float(peak) / float(bandwidth))
    x = log("intensity, FLOP per byte", reach)
    y = log("achieved, GFLOP/s", [*(dot.y for dot in dots), *([float(peak)] if peak else [])])
    roof = _roof(float(peak), float(bandwidth), x.low, x.high, y.low) if x and y and peak and bandwidth else ()
    marks: list[Curve | Dots] = [Curve("roof: this machine's measured peak", roof, 7, dots=False, dash="none"), *groups]
    caption = f"Roofline, one dot a node: {setting.label}. FLOPs are counted as if dense."
    if peak and bandwidth:
        caption += f" Measured peak {number(peak)} GFLOP/s and {number(bandwidth)} GB/s."
    return figure(caption, plot(x, y, marks, label=caption, height=200))


def _dots(entry: Json) -> tuple[Dot, ...]:
    return tuple(
        Dot(float(node["intensity"]), float(node["gflops"]), _node_title(node))
        for node in entry["nodes"]
        if (at(node, "intensity") or 0) > 0 and (at(node, "gflops") or 0) > 0
    )


def _node_title(node: Json) -> str:
    share = at(node, "share_of_peak")
    peak = f", {percent(share)} of the peak" if share is not None else ""
    name = f"{at(node, 'module') or at(node, 'node', default='node')} ({at(node, 'op', default='?')})"
    return f"{name}: {milliseconds(at(node, 'ms'))}, {number(at(node, 'gflops'))} GFLOP/s{peak}"


def _roof(peak: float, bandwidth: float, low: float, high: float, floor: float) -> tuple[tuple[float, float], ...]:
    """Bandwidth times intensity up to the peak, inside the picture."""
    knee = peak / bandwidth
    start = max(low, floor / bandwidth)
    corners = [(start, bandwidth * start), (knee, peak)] if start < knee else [(low, peak)]
    return (*corners, *([(high, peak)] if high > knee else []))


def totals(data: ReportInput) -> list[str]:
    """What the sums of an entry say: all of it, what no node accounts for, the most that activations took."""
    chosen = shown(data.profile)
    found = []
    for entry in chosen[1:] if chosen else ():
        if entry is None:
            continue
        words = [f"{milliseconds(at(entry, 'total_ms'))} in all"] if at(entry, "total_ms") is not None else []
        if (rest := at(entry, "unattributed_ms")) is not None:
            words.append(f"{milliseconds(rest)} of it outside the nodes")
        if (activations := at(entry, "activation_peak_bytes")) is not None:
            words.append(f"activations take at most {size(activations)}")
        if words:
            found.append(f"{name_of(entry, pruned_of(data))}: {', '.join(words)}.")
    return found


def skipped(data: ReportInput) -> list[str]:
    """Graphs whose nodes could not be timed, with the reason; one that several share is told once."""
    reasons: dict[str, list[str]] = {}
    for entry in at(data.profile, "layers", default=[]):
        if not at(entry, "nodes") and (reason := at(entry, "reason")):
            reasons.setdefault(str(reason), []).append(f"{name_of(entry, pruned_of(data))} {setting_of(entry).label}")
    return [f"Nodes of {'; '.join(names)} were not timed: {reason}." for reason, names in reasons.items()]
