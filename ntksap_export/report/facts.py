"""The lists of a report: tiles, settings, health, notes, machine."""

from __future__ import annotations

from typing import Any

from ntksap_export import recipes
from ntksap_export.latency_budget import LatencyBudget, reached_text
from ntksap_export.report import search
from ntksap_export.report.cells import engine_cell, headline_pair, p50, pruned_of, ratio_of
from ntksap_export.report.document import in_a_line, plain
from ntksap_export.report.inputs import Json, ReportInput, at, flag
from ntksap_export.report.text import (
    ABSENT,
    count,
    milliseconds,
    number,
    percent,
    plural,
    seconds,
    short_count,
    size,
    times,
)
from ntksap_export.report.verdict import claim, dense_file, sparsity_of

Rows = list[tuple[str, str]]


def tiles(data: ReportInput) -> list[tuple[str, str, str]]:
    """(name, value, note) of the few numbers to see first; what is missing is left out."""
    table = at(data.mask, "table", default={})
    pair = headline_pair(data.profile)
    found: list[tuple[str, str, str]] = []
    if (accuracy := at(data.metrics, "final", "val_accuracy")) is not None:
        found.append(("top-1 accuracy", percent(accuracy), "validation, last epoch"))
    if (sparsity := sparsity_of(data)) is not None:
        kept, weights = short_count(at(table, "kept")), short_count(at(table, "weights"))
        found.append(("sparsity", percent(sparsity), f"{kept} of {weights} weights kept" if table else "asked for"))
    if (density := at(table, "flop_density")) is not None:
        note = f"theoretical speed-up {times(at(table, 'theoretical_speedup'))}"
        found.append(("FLOP density", percent(density), note))
    if (checkpoint := data.sizes.get("model.safetensors")) is not None:
        dense = data.sizes.get(dense_file(data.sizes) or "")
        found.append(("checkpoint", size(checkpoint), f"dense {size(dense)}" if dense else "model.safetensors"))
    if pair and pair.ratio:
        setting, dense_ms = pair.setting, milliseconds(p50(pair.dense))
        note = f"dense {dense_ms}, so {claim(pair.ratio)}; {setting.backend}, {setting.load}"
        found.append((f"latency p50, {pruned_of(data)}", milliseconds(p50(pair.sparse)), note))
    if pair and (fast := engine_cell(data.profile, pair)) and (ratio := ratio_of(fast, data.profile)):
        note = f"{claim(ratio)} than {ratio.baseline}: {times(1 / ratio.value)}; {pair.setting.load}"
        found.append(("latency p50, sparse engine", milliseconds(p50(fast)), note))
    return found


def run_rows(data: ReportInput) -> Rows:
    """The settings that explain the numbers."""
    table, config = at(data.mask, "table", default={}), data.config
    flop_density = at(table, "flop_density")
    rows = [
        ("model", plain(at(config, "architecture"))),
        ("recipe", _recipe_words(data)),
        ("starts from", _weights_words(data)),
        ("classes", plain(at(config, "num_classes"))),
        ("input (C, H, W)", plain(at(config, "pretrained_cfg", "input_size"))),
        ("data", _data_words(data)),
        ("method", plain(at(data.mask, "method", default=flag(data, "method")))),
        ("rounds", _rounds_words(data)),
        ("trained to find the mask", search.cost(data.mask) or ABSENT),
        ("pattern", plain(at(data.mask, "pattern", default=flag(data, "pattern")))),
        ("scope", plain(at(data.mask, "scope", default=flag(data, "scope")))),
        ("control", plain(at(data.mask, "control", default=flag(data, "control")))),
        ("sparsity asked for", _maybe(percent, flag(data, "sparsity"))),
        ("weights asked for", _maybe(count, flag(data, "params"))),
        ("FLOPs asked for", _maybe(percent, flag(data, "flops"))),
        ("channels kept", _channels_kept(data)),
        ("latency budget", _latency_words(data)),
        ("density reached", _maybe(percent, at(table, "density"))),
        ("prunable weights kept", f"{count(at(table, 'kept'))} of {count(at(table, 'weights'))}"),
        ("FLOP density", _maybe(percent, flop_density)),
        ("theoretical speed-up", times(at(table, "theoretical_speedup"))),
        ("time to prune", seconds(at(data.mask, "seconds"))),
        ("epochs", plain(at(data.metrics, "epochs", default=flag(data, "epochs")))),
        ("batch size", plain(flag(data, "batch-size"))),
        ("learning rate", plain(flag(data, "lr"))),
        ("seed", plain(flag(data, "seed"))),
        ("trained on", _joined(at(data.metrics, "device"), at(data.metrics, "precision"))),
        ("time to train", seconds(at(data.metrics, "seconds"))),
    ]
    return [row for row in rows if ABSENT not in row[1]]


def _recipe_words(data: ReportInput) -> str:
    name, settings = flag(data, "recipe"), at(data.config, "ntksap", "config", default={})
    if name is None:
        return ABSENT
    if name not in recipes.names():
        return str(name)
    other = recipes.differences(name, settings, ("prune", "train"))
    # The data have a row of their own, without a path.
    shown = [f"{key} {'none' if run is None else plain(run)}" for key, (_, run) in other.items() if key != "data"]
    return f"{name}, but {', '.join(shown)}" if shown else str(name)


def _rounds_words(data: ReportInput) -> str:
    """Those of a score; a search tells its trainings instead."""
    return ABSENT if at(data.mask, "search") else plain(at(data.mask, "rounds", default=flag(data, "rounds")))


def _channels_kept(data: ReportInput) -> str:
    channels = at(data.mask, "channels")
    return ABSENT if not channels else f"{count(channels['kept'])} of {count(channels['channels'])}"


def _latency_words(data: ReportInput) -> str:
    told = at(data.mask, "latency")
    if not told:
        return ABSENT
    where = LatencyBudget(told["asked_ms"], told["backend"], told["device"], told["batch"], told["threads"]).where()
    return f"{reached_text(told)}; {where}"


def _maybe(form: Any, value: Any) -> str:
    return ABSENT if value is None else str(form(float(value)))


def _joined(*values: Any) -> str:
    return ", ".join(str(value) for value in values if value is not None) or ABSENT


def _data_words(data: ReportInput) -> str:
    source = at(data.config, "data", default={})
    if not source:
        return ABSENT
    amounts = f"{count(at(source, 'train_images'))} to train, {count(at(source, 'val_images'))} to validate"
    embedded = " (comes with the package)" if at(source, "embedded") else ""
    return f"{at(source, 'name', default='unnamed')}{embedded}: {amounts}"


def _weights_words(data: ReportInput) -> str:
    digest = flag(data, "weights-sha256")
    return ABSENT if digest is None else f"weights of a file, SHA-256 {str(digest)[:12]}"


def flag_rows(data: ReportInput) -> Rows:
    return [(str(k), plain(v)) for k, v in at(data.config, "ntksap", "config", default={}).items()]


def health_rows(health: Json) -> Rows:
    """What the mask emptied, in counts."""
    collapsed = at(health, "collapsed_layers", default=[])
    outputs = at(health, "empty_output_channels", default={})
    inputs = at(health, "empty_input_channels", default={})
    rows: Rows = [
        ("collapsed layers", ", ".join(map(str, collapsed)) or "none"),
        ("empty output channels", _channels(outputs)),
        ("empty input channels", _channels(inputs)),
    ]
    if at(health, "classes"):
        empty = f"{count(at(health, 'empty_classes', default=0))} of {count(at(health, 'classes'))}"
        rows.append(("classes with nothing kept", f"{empty} (rows of {at(health, 'classifier', default='?')})"))
    return rows


def _channels(counts: dict[str, int]) -> str:
    if not counts:
        return "none"
    worst = sorted(counts.items(), key=lambda item: -item[1])[:3]
    words = ", ".join(f"{name.removesuffix('.weight')} {amount:,}" for name, amount in worst)
    return f"{sum(counts.values()):,} in {plural(len(counts), 'layer')}; most: {words}"


def precision_notes(parity: Json) -> list[str]:
    """How each of those graphs was made, and what was left in float32 for which reason."""
    notes = []
    for name, entry in at(parity, "precisions", default={}).items():
        if problem := at(entry, "problem"):
            notes.append(f"{name}: {problem}.")
        if calibration := at(entry, "calibration"):
            how = f"{plain(at(calibration, 'method'))} over {plural(int(at(calibration, 'images')), 'training image')}"
            weights = f"{plain(at(entry, 'weights', 'range'))} range, because {plain(at(entry, 'weights', 'why'))}"
            layers_ = plural(len(at(entry, "int8_layers", default=[])), "layer")
            notes.append(f"{name}: {layers_} in int8; activations by {how}; weights in the {weights}.")
        if operators := at(entry, "float32_operators"):
            words = ", ".join(f"{kind} ({amount})" for kind, amount in operators.items())
            notes.append(f"{name}: operators that compute in float32: {words}.")
        for layer, reason in at(entry, "float32_layers", default={}).items():
            notes.append(f"{name}: {layer} is left in float32: {reason}.")
        if (reach := at(entry, "largest_activation")) is not None:
            notes.append(f"{name}: images and logits are {at(entry, 'io')}; the largest activation is {number(reach)}.")
    return notes


_ENVIRONMENT = {
    "cpu": "CPU",
    "cores": "cores",
    "gpu": "GPU",
    "ram_bytes": "RAM",
    "os": "operating system",
    "python": "Python",
    "isa": "ISA",
    "governor": "CPU governor",
}


def environment_rows(profile: Json, more_versions: dict[str, str]) -> Rows:
    """Everything that a profile tells of its machine, the known names first, then the versions."""
    environment = at(profile, "environment", default={})
    unknown = {"gpu": "none", "governor": "not readable"}
    keys = [*_ENVIRONMENT, *(key for key in environment if key not in _ENVIRONMENT and key != "versions")]
    rows = []
    for key in keys if environment else []:
        value = at(environment, key, default=unknown.get(key))
        if value is not None and value != {} and value != []:
            name = _ENVIRONMENT.get(key, key.removesuffix("_bytes").replace("_", " "))
            rows.append(
                (name, size(value) if key.endswith("_bytes") and isinstance(value, int | float) else in_a_line(value))
            )
    machine = at(profile, "machine", default={})
    for key, name in (("peak_gflops", "measured peak, GFLOP/s"), ("bandwidth_gb_s", "measured bandwidth, GB/s")):
        if told := at(machine, key):
            by_threads = ", ".join(f"{number(value)} on {plural(int(n), 'thread')}" for n, value in told.items())
            rows.append((name, by_threads))
    versions = {**at(environment, "versions", default={}), **more_versions}
    return rows + [(name, str(version)) for name, version in sorted(versions.items())]
