"""The tables of a report, as rows of ready text."""

from __future__ import annotations

from typing import Any

from ntksap_export import recipes
from ntksap_export.report.cells import headline_pair, paired_cells, pruned_of, setting_of, skipped_cells, variant_of
from ntksap_export.report.charts import layer_name
from ntksap_export.report.inputs import Json, ReportInput, at, flag
from ntksap_export.report.text import (
    ABSENT,
    count,
    dense_file,
    milliseconds,
    number,
    percent,
    plural,
    seconds,
    short_count,
    size,
    sparsity_of,
    times,
)

Rows = list[tuple[str, ...]]


def plain(value: Any) -> str:
    """A JSON value as text: lists with commas, null as absent."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def tiles(data: ReportInput) -> Rows:
    """(name, value, note) of the few numbers to see first; what is missing is left out."""
    table = at(data.mask, "table", default={})
    pair = headline_pair(data.profile)
    found: Rows = []
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
    if pair:
        sparse, dense_p50 = at(pair.sparse, "latency_ms", "p50"), at(pair.dense, "latency_ms", "p50")
        note = f"dense {milliseconds(dense_p50)}; {pair.setting.backend}, {pair.setting.load}"
        found.append((f"latency p50, {pruned_of(data)}", milliseconds(sparse), note))
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
        ("rounds", plain(at(data.mask, "rounds", default=flag(data, "rounds")))),
        ("pattern", plain(at(data.mask, "pattern", default=flag(data, "pattern")))),
        ("scope", plain(at(data.mask, "scope", default=flag(data, "scope")))),
        ("control", plain(at(data.mask, "control", default=flag(data, "control")))),
        ("sparsity asked for", _maybe(percent, flag(data, "sparsity"))),
        ("weights asked for", _maybe(count, flag(data, "params"))),
        ("FLOPs asked for", _maybe(percent, flag(data, "flops"))),
        ("channels kept", _channels_kept(data)),
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


def _channels_kept(data: ReportInput) -> str:
    channels = at(data.mask, "channels")
    return ABSENT if not channels else f"{count(channels['kept'])} of {count(channels['channels'])}"


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


def layer_rows(mask: Json) -> Rows:
    return [
        (
            layer_name(row),
            " × ".join(plain(side) for side in at(row, "shape", default=[])),
            count(at(row, "weights")),
            count(at(row, "kept")),
            percent(at(row, "density")),
            short_count(at(row, "macs")),
            short_count(at(row, "kept_macs")),
            percent(at(row, "flop_share")),
        )
        for row in at(mask, "table", "rows", default=[])
    ]


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


def latency_rows(profile: Json, pruned: str = "sparse") -> Rows:
    """One row per measured cell: setting, variant, p50, p90, p99, throughput, n, noise."""
    rows = []
    for cell in paired_cells(profile):
        setting = setting_of(cell)
        latency = (number(at(cell, "latency_ms", key)) for key in ("p50", "p90", "p99"))
        rows.append(
            (
                f"{setting.backend} {setting.device} {setting.precision}",
                str(setting.batch),
                plain(setting.threads),
                variant_of(cell, pruned, ABSENT),
                *latency,
                number(at(cell, "throughput_images_per_s")),
                plain(at(cell, "runs")),
                str(at(cell, "noise", default=ABSENT)),
            )
        )
    return rows


def skipped_rows(profile: Json, pruned: str = "sparse") -> Rows:
    """(what, why) of every cell that was not measured."""
    return [
        (
            f"{variant_of(cell, pruned, '')} {setting_of(cell).label}".strip(),
            str(at(cell, "reason", default="no reason given")),
        )
        for cell in skipped_cells(profile)
    ]


def parity_rows(parity: Json) -> Rows:
    rows = []
    for check in at(parity, "checks", default=[]):
        floats = (at(check, key) for key in ("max_abs", "max_rel", "atol", "rtol"))
        rows.append(
            (
                str(at(check, "runtime", default=ABSENT)),
                str(at(check, "optimization", default=ABSENT)),
                str(at(check, "images", default=ABSENT)),
                str(at(check, "output", default=ABSENT)),
                plain(at(check, "batch")),
                *(ABSENT if value is None else f"{value:.1e}" for value in floats),
                number(at(check, "logit_scale")),
                "passed" if at(check, "passed") else "FAILED",
            )
        )
    return rows


def precision_rows(parity: Json) -> Rows:
    """One row per graph beside model.onnx: what it is, what it costs in accuracy, what of it is not int8."""
    rows: Rows = []
    for name, entry in at(parity, "precisions", default={}).items():
        judged = at(entry, "accuracy", default={})
        rows.append(
            (
                str(at(entry, "file", default=name)),
                size(at(entry, "bytes")),
                percent(at(judged, "before")),
                percent(at(judged, "after")),
                percent(at(judged, "agreement")),
                f"{number(at(judged, 'sqnr_db'))} dB",
                "passed" if at(entry, "passed") else "FAILED",
            )
        )
    return rows


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


def environment_rows(data: ReportInput) -> Rows:
    environment = at(data.profile, "environment", default={})
    rows = [
        ("CPU", plain(at(environment, "cpu"))),
        ("cores", plain(at(environment, "cores"))),
        ("GPU", plain(at(environment, "gpu", default="none"))),
        ("operating system", plain(at(environment, "os"))),
        ("Python", plain(at(environment, "python"))),
        ("CPU governor", plain(at(environment, "governor", default="not readable"))),
    ]
    versions = {**at(environment, "versions", default={}), **data.versions}
    known = rows if environment else []
    return known + [(name, str(version)) for name, version in sorted(versions.items())]
