"""The sentences that say what a run showed.

Every sentence is computed: it says "faster" or "slower" only where p50 differs by more than 5 % and the interval of the
ratio does not hold 1, and "not measured" where a part of the run is missing.
"""

from __future__ import annotations

from ntksap_export.report import search
from ntksap_export.report.cells import (
    Pair,
    Ratio,
    Setting,
    engine_cell,
    engine_ratios,
    headline_pair,
    measured_cells,
    p50,
    pair_cells,
    pruned_of,
    ratio_of,
    setting_of,
)
from ntksap_export.report.inputs import Json, ReportInput, at, flag
from ntksap_export.report.text import count, milliseconds, percent, plural, seconds, size, times, wilson

NO_DIFFERENCE = 0.05
"""Ratios of p50 closer to 1 than this are called no difference."""
HEADINGS = ("What it is", "What it costs", "What it gains")

_PLACE = (("on", "device"), ("in", "precision"))


def sparsity_of(data: ReportInput) -> float | None:
    """What the mask reached; what was asked for where the mask is missing."""
    density = at(data.mask, "table", "density")
    asked = flag(data, "sparsity")
    return 1 - float(density) if density is not None else None if asked is None else float(asked)


def verdict(data: ReportInput) -> tuple[str, str, str]:
    """The three lines: what was made, what that costs in accuracy, what it gains in latency, size and memory."""
    return what_it_is(data), what_it_costs(data), what_it_gains(data)


def what_it_is(data: ReportInput) -> str:
    """Network, sparsity, method, training."""
    name = at(data.config, "architecture", default="a network")
    text = _pruning(data, str(name)) if data.mask else f"No pruning of {name} is recorded."
    if not data.metrics:
        return f"{text} No training is recorded."
    images = at(data.config, "data", "train_images")
    source = str(at(data.config, "data", "name", default="its data"))
    what = f"{source} ({plural(images, 'training image')})" if images else source
    epochs = int(at(data.metrics, "epochs", default=len(at(data.metrics, "history", default=[]))))
    if not epochs:
        return f"{text} It was not trained after that."
    return f"{text} It was {'fine-tuned' if given(data) else 'trained'} for {plural(epochs, 'epoch')} on {what}."


def given(data: ReportInput) -> bool:
    """Whether the run started from weights of a file, not from drawn ones."""
    return flag(data, "weights-sha256") is not None


def _pruning(data: ReportInput, name: str) -> str:
    how = str(at(data.mask, "method", default="an unnamed method"))
    if trainings := search.cost(data.mask):
        how += f": {trainings}"
    elif rounds := at(data.mask, "rounds"):
        how += f" in {plural(int(rounds), 'round')}"
    if sparsity_of(data) == 0:
        return f"{name} was not pruned: it is the dense network."
    when = "" if at(data.mask, "search") else " before training"
    start = f"{name}, trained before," if given(data) else name
    text = f"{start} was pruned{'' if given(data) else when} to {percent(sparsity_of(data))} sparsity with {how}."
    return " ".join([text, *_form(data)])


def _form(data: ReportInput) -> list[str]:
    """What a reader must know of pattern and control, if they are not the usual ones."""
    found = []
    if channels := at(data.mask, "channels"):
        found.append(
            f"{count(channels['channels'] - channels['kept'])} of {count(channels['channels'])} channels were removed: "
            "the network is smaller, channels.json says how, and its weights fit no dense one."
        )
    pattern = str(at(data.mask, "pattern", default="unstructured")).removeprefix("channel").removeprefix("+")
    if pattern and pattern != "unstructured":
        found.append(f"Its kept weights follow the pattern {pattern}.")
    if at(data.mask, "control") == "shuffle":
        found.append("As a control the mask was then shuffled within each layer.")
    if at(data.mask, "control") == "reinit":
        found.append("As a control another draw of the initialization was trained.")
    return found


def what_it_costs(data: ReportInput) -> str:
    """Final top-1 with its interval, chance, what other precisions change, and what the number cannot say."""
    final = at(data.metrics, "final", "val_accuracy")
    if final is None:
        return "Accuracy was not measured."
    notes = []
    images, classes = at(data.config, "data", "val_images"), at(data.config, "num_classes")
    low, high = accuracy_interval(data)
    if low is not None and high is not None:
        notes.append(f"95 % interval {percent(low)} to {percent(high)} on {plural(int(images), 'validation image')}")
    if classes:
        notes.append(f"guessing gives {percent(1 / classes)}")
    text = f"Top-1 accuracy is {percent(final)}" + (f" ({'; '.join(notes)})." if notes else ".")
    text += "".join(_precision_costs(data.parity))
    if sparsity_of(data):
        text += " No dense network was trained beside it: what sparsity costs in accuracy is not known."
    return text


def accuracy_interval(data: ReportInput) -> tuple[float | None, float | None]:
    """Of the final accuracy, 95 %; unknown without the number of images."""
    final, images = at(data.metrics, "final", "val_accuracy"), at(data.config, "data", "val_images")
    return wilson(float(final), int(images)) if final is not None and images else (None, None)


def _precision_costs(parity: Json) -> list[str]:
    found = []
    for name, entry in at(parity, "precisions", default={}).items():
        before, after = at(entry, "accuracy", "before"), at(entry, "accuracy", "after")
        if before is not None and after is not None:
            found.append(f" In {name} it is {percent(after)}, where model.onnx has {percent(before)}.")
    return found


def training_words(data: ReportInput) -> str:
    """Best epoch and the time that training took; nothing where neither is known."""
    found = []
    best, epoch = at(data.metrics, "best", "val_accuracy"), at(data.metrics, "best", "epoch")
    if best is not None and epoch:
        found.append(f"The best epoch was {epoch}, with {percent(best)}, chosen on the same validation images.")
    if (took := at(data.metrics, "seconds")) is not None:
        place = [f"{word} {part}" for word, key in _PLACE if (part := at(data.metrics, key))]
        found.append(f"Training took {' '.join([seconds(took), *place])}.")
    return " ".join(found)


def what_it_gains(data: ReportInput) -> str:
    """Latency, size and memory, in that order."""
    parts = (_latency(data), _engine(data), *_other_precisions(data), _checkpoint(data), _memory(data))
    return " ".join(part for part in parts if part)


def claim(ratio: Ratio) -> str:
    """`faster`, `slower` or `no faster`, as far as the interval lets one say so."""
    sure_below = ratio.high is None or ratio.high < 1
    sure_above = ratio.low is None or ratio.low > 1
    if ratio.value < 1 - NO_DIFFERENCE and sure_below:
        return "faster"
    return "slower" if ratio.value > 1 + NO_DIFFERENCE and sure_above else "no faster"


def ratio_words(ratio: Ratio) -> str:
    """1.01 times the time of dense, with the interval where there is one."""
    text = f"{ratio.value:.2f} times the time of {ratio.baseline}"
    if ratio.low is None or ratio.high is None:
        return text
    return f"{text}, 95 % interval {ratio.low:.2f} to {ratio.high:.2f}"


def compare_times(pair: Pair) -> str:
    """One sentence on one pair: faster, slower or no faster, with both numbers and the interval of their ratio."""
    ratio = pair.ratio
    if ratio is None:
        return ""
    setting = pair.setting
    numbers = f"{milliseconds(p50(pair.sparse))} against {milliseconds(p50(pair.dense))}"
    text = (
        f"In {setting.backend} it is {claim(ratio)} than dense: {numbers}, {ratio_words(ratio)} "
        f"({setting.device}, {setting.precision}, {setting.load})."
    )
    return text + (" At least one of these two timings is noisy, so the ratio is rough." if pair.noisy else "")


def _latency(data: ReportInput) -> str:
    pruned = pruned_of(data)
    pair = headline_pair(data.profile, pruned)
    if pair is None:
        return f"Latency was not measured for both the {pruned} and the dense network, so nothing is said of speed."
    return compare_times(pair)


def _engine(data: ReportInput) -> str:
    """What the mask gains in the sparse engine, beside what its zeros gain in the runtime as it is."""
    pair = headline_pair(data.profile, pruned_of(data))
    cell = None if pair is None else engine_cell(data.profile, pair)
    if pair is None or cell is None or (ratio := ratio_of(cell, data.profile)) is None:
        return ""
    plain, slim = pair.ratio, pair.pruned == "slim"  # which has no zeros
    gained = plain is None or slim or claim(plain) == "faster"
    zeros = "" if plain is None or gained else f"zeros alone gain nothing ({times(1 / plain.value)}); "
    numbers = f"{milliseconds(p50(cell))}, {ratio_words(ratio)}, so {times(1 / ratio.value)}"
    words = f"{zeros}with the sparse engine (model.sparse.onnx) it is {claim(ratio)} than {ratio.baseline}: {numbers}."
    return words[0].upper() + words[1:]


def _other_precisions(data: ReportInput) -> list[str]:
    """The same place in other precisions, each against dense in its own where that was measured."""
    pruned = pruned_of(data)
    pair = headline_pair(data.profile, pruned)
    found = []
    for cell in measured_cells(data.profile) if pair else []:
        setting = setting_of(cell)
        if (
            pair is None
            or at(cell, "variant") != "sparse"
            or setting == pair.setting
            or setting.spot != pair.setting.spot
        ):
            continue
        if ratio := ratio_of(cell, data.profile):
            than, against = _dense_words(data, setting)
            numbers = f"{milliseconds(p50(cell))}{against}, {ratio_words(ratio)}"
            found.append(f"In {setting.precision} it is {claim(ratio)}{than}: {numbers}.")
    return found


def _dense_words(data: ReportInput, setting: Setting) -> tuple[str, str]:
    """The dense network of that very setting and its time; empty where its ratio is to the one in float32."""
    cells = measured_cells(data.profile)
    dense = next((cell for cell in cells if at(cell, "variant") == "dense" and setting_of(cell) == setting), None)
    if dense is None:
        return "", ""
    return f" than dense in {setting.precision}", f" against {milliseconds(p50(dense))}"


def all_ratios(data: ReportInput) -> list[float]:
    return [pair.ratio.value for pair in pair_cells(data.profile) if pair.ratio is not None]


def span_words(data: ReportInput) -> str:
    """The range over every pair measured; nothing of a single one."""
    ratios = all_ratios(data)
    if len(ratios) < 2:
        return ""
    low, high = f"{min(ratios):.2f}", f"{max(ratios):.2f}"
    span = low if low == high else f"{low} to {high}"
    return f"Over all {len(ratios)} pairs of one precision, {pruned_of(data)} took {span} times as long as dense."


def dense_file(sizes: dict[str, int]) -> str | None:
    """Name of the dense counterpart among the sizes."""
    return next((name for name in sizes if name.startswith("dense")), None)


def _checkpoint(data: ReportInput) -> str:
    sparse, dense = data.sizes.get("model.safetensors"), data.sizes.get(dense_file(data.sizes) or "")
    if not sparse or not dense:
        return ""
    numbers = f"({size(sparse)} against {size(dense)})"
    if dense / sparse > 1 + NO_DIFFERENCE:
        return f"The checkpoint is {dense / sparse:.1f} times smaller {numbers}."
    return f"The checkpoint is not smaller than a dense one {numbers}."


def _memory(data: ReportInput) -> str:
    pair = headline_pair(data.profile, pruned_of(data))
    peaks = [at(cell, "memory", "run_peak_rss_bytes") for cell in (pair.sparse, pair.dense)] if pair else [None]
    if None in peaks or not peaks[1]:
        return ""
    share = peaks[0] / peaks[1]
    words = "about the same" if abs(share - 1) <= NO_DIFFERENCE else "lower" if share < 1 else "higher"
    return f"Peak RSS is {words} ({size(peaks[0])} against {size(peaks[1])})."


def theory_words(data: ReportInput) -> str:
    """What counting operations promises, held against the best pair measured."""
    theory = at(data.mask, "table", "theoretical_speedup")
    if theory is None:
        return ""
    text = f"The theoretical speed-up, dense MACs / nonzero MACs, is {times(theory)}"
    ratios = [*all_ratios(data), *(ratio.value for ratio in engine_ratios(data.profile))]
    if theory <= 1 + NO_DIFFERENCE:
        return f"{text}: there was next to nothing to gain."
    if not ratios:
        return f"{text}; whether a runtime reaches it was not measured."
    best = 1 / min(ratios)
    if best < theory:
        return f"{text}; no runtime measured here reaches it (the best pair: {times(best)})."
    return f"{text}; the best pair measured here reaches it ({times(best)})."
