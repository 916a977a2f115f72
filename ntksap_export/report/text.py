"""Numbers as people read them, and the sentences that say what a run showed.

Every sentence is computed: it says "faster" or "slower" only where p50 differs by more than 5 %, and "not
measured" where a part of the run is missing.
"""

from __future__ import annotations

import math

from ntksap_export.report.cells import Pair, headline_pair, pair_cells, pruned_of
from ntksap_export.report.inputs import ReportInput, at, flag

ABSENT = "n/a"
NO_DIFFERENCE = 0.05
"""Ratios of p50 closer to 1 than this are called no difference."""


def number(value: float | None) -> str:
    """Three significant digits or all digits before the point, never an exponent: 0.812, 28.1, 1,234."""
    if value is None or not math.isfinite(value):
        return ABSENT
    size = abs(value)
    decimals = next((d for limit, d in ((99.95, 0), (9.995, 1), (0.9995, 2)) if size >= limit), 3)
    return f"{value:,.{decimals}f}"


def milliseconds(value: float | None) -> str:
    return ABSENT if value is None else f"{number(value)} ms"


def seconds(value: float | None) -> str:
    """Below two minutes in seconds, then minutes, then hours."""
    if value is None:
        return ABSENT
    if value < 120:
        return f"{number(value)} s"
    return f"{number(value / 60)} min" if value < 7200 else f"{number(value / 3600)} h"


def size(value: float | None) -> str:
    """Bytes in powers of 1000: 512 B, 11.2 MB."""
    if value is None:
        return ABSENT
    if abs(value) < 1000:
        return f"{value:.0f} B"
    power = min(int(math.log10(abs(value)) // 3), 4)
    return f"{number(value / 1000**power)} {' kMGT'[power]}B"


def percent(fraction: float | None) -> str:
    """One decimal; more where one would round a small share to 0 or a large one to 100."""
    if fraction is None or not math.isfinite(fraction):
        return ABSENT
    rest = min(abs(fraction), abs(1 - fraction))
    decimals = 1 if rest == 0 or rest >= 0.0005 else min(12, math.ceil(-math.log10(rest)) - 1)
    return f"{100 * fraction:.{decimals}f} %"


def count(value: float | None) -> str:
    return ABSENT if value is None else f"{value:,.0f}"


def short_count(value: float | None) -> str:
    """4.09 G, 23.5 M; exact below 10,000."""
    if value is None or abs(value) < 10_000:
        return count(value)
    power = min(int(math.log10(abs(value)) // 3), 4)
    return f"{number(value / 1000**power)} {' kMGT'[power]}"


def times(ratio: float | None) -> str:
    return ABSENT if ratio is None else f"{ratio:.2f}x"


_PLACE = (("on", "device"), ("in", "precision"))


def plural(amount: int, noun: str) -> str:
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"


def wilson(share: float, n: int) -> tuple[float, float]:
    """95 % interval of a share counted on `n` images (Wilson 1927); stays inside [0, 1] also at 0 and 1."""
    z = 1.96
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def sparsity_of(data: ReportInput) -> float | None:
    """What the mask reached; what was asked for where the mask is missing."""
    density = at(data.mask, "table", "density")
    asked = flag(data, "sparsity")
    return 1 - float(density) if density is not None else None if asked is None else float(asked)


def verdict(data: ReportInput) -> tuple[str, ...]:
    """Three paragraphs: what was run, how accurate it is, what sparsity did and did not buy."""
    return what_was_run(data), accuracy(data), what_sparsity_bought(data)


def what_was_run(data: ReportInput) -> str:
    """Pruning, data, epochs and where training ran."""
    name = at(data.config, "architecture", default="a network")
    text = _pruning(data, str(name)) if data.mask else f"No pruning of {name} is recorded."
    if not data.metrics:
        return f"{text} No training is recorded."
    images = at(data.config, "data", "train_images")
    source = str(at(data.config, "data", "name", default="its data"))
    what = f"{source} ({plural(images, 'training image')})" if images else source
    epochs = plural(int(at(data.metrics, "epochs", default=len(at(data.metrics, "history", default=[])))), "epoch")
    text += f" It was trained for {epochs} on {what}."
    if (took := at(data.metrics, "seconds")) is not None:
        place = [f"{word} {part}" for word, key in _PLACE if (part := at(data.metrics, key))]
        text += f" Training took {' '.join([seconds(took), *place])}."
    return text


def _pruning(data: ReportInput, name: str) -> str:
    how = str(at(data.mask, "method", default="an unnamed method"))
    if rounds := at(data.mask, "rounds"):
        how += f" in {plural(int(rounds), 'round')}"
    if (took := at(data.mask, "seconds")) is not None:
        how += f" ({seconds(took)})"
    text = f"{name} was pruned before training to {percent(sparsity_of(data))} sparsity with {how}."
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


def accuracy(data: ReportInput) -> str:
    """Final top-1 with its interval, the best epoch, chance, and what the number cannot say."""
    final = at(data.metrics, "final", "val_accuracy")
    if final is None:
        return "Accuracy was not measured."
    images, classes = at(data.config, "data", "val_images"), at(data.config, "num_classes")
    text = f"Top-1 accuracy is {percent(final)} after the last epoch"
    if images:
        low, high = wilson(float(final), int(images))
        interval = f"95 % interval {percent(low)} to {percent(high)}"
        text += f", on {plural(int(images), 'validation image')} ({interval})"
    best, epoch = at(data.metrics, "best", "val_accuracy"), at(data.metrics, "best", "epoch")
    if best is not None and best > final:
        text += f"; the best was {percent(best)}" + (f" in epoch {epoch}" if epoch is not None else "")
    text += f"; guessing gives {percent(1 / classes)}." if classes else "."
    if sparsity_of(data):
        text += " No dense network was trained beside it: what sparsity costs in accuracy is not known."
    return text


def what_sparsity_bought(data: ReportInput) -> str:
    """Latency, size and theory, in that order."""
    parts = (_latency(data), _checkpoint(data), _theory(data))
    return " ".join(part for part in parts if part)


def compare_times(pair: Pair, pattern: str = "unstructured") -> str:
    """One sentence on one pair: faster, slower or no difference, with both numbers."""
    ratio = pair.time_ratio
    if ratio is None:
        return ""
    dense, sparse = at(pair.dense, "latency_ms", "p50"), at(pair.sparse, "latency_ms", "p50")
    backend = pair.setting.backend
    what = f"The {pattern} mask" if not pattern.startswith("channel") else "Removing channels"
    if ratio < 1 - NO_DIFFERENCE:
        claim = f"{what} makes {backend} faster"
    elif ratio > 1 + NO_DIFFERENCE:
        claim = f"{what} makes {backend} slower"
    else:
        claim = f"{what} does not make {backend} faster"
    numbers = f"{pair.pruned} {milliseconds(sparse)} against dense {milliseconds(dense)}"
    text = f"{claim}: {numbers} ({ratio:.2f} times the time) at {pair.setting.load}."
    return text + (" At least one of these two timings is noisy, so the ratio is rough." if pair.noisy else "")


def _latency(data: ReportInput) -> str:
    pruned = pruned_of(data)
    pair = headline_pair(data.profile, pruned)
    if pair is None:
        return f"Latency was not measured for both the {pruned} and the dense network, so nothing is said of speed."
    text = compare_times(pair, str(flag(data, "pattern", "unstructured")))
    ratios = _ratios(data)
    if len(ratios) > 1:
        low, high = f"{min(ratios):.2f}", f"{max(ratios):.2f}"
        span = low if low == high else f"{low} to {high}"
        text += f" Over all {len(ratios)} pairs measured, {pruned} took {span} times as long as dense."
    return text


def _ratios(data: ReportInput) -> list[float]:
    return [pair.time_ratio for pair in pair_cells(data.profile) if pair.time_ratio is not None]


def dense_file(sizes: dict[str, int]) -> str | None:
    """Name of the dense counterpart among the sizes."""
    return next((name for name in sizes if name.startswith("dense")), None)


def _checkpoint(data: ReportInput) -> str:
    sparse, dense = data.sizes.get("model.safetensors"), data.sizes.get(dense_file(data.sizes) or "")
    if not sparse or not dense:
        return ""
    numbers = f"({size(sparse)} against {size(dense)})"
    if dense / sparse > 1 + NO_DIFFERENCE:
        faster = min(_ratios(data), default=1.0) < 1 - NO_DIFFERENCE
        opening = "The" if faster else "What it buys here: the"
        return f"{opening} checkpoint is {dense / sparse:.1f} times smaller {numbers}."
    return f"The checkpoint is not smaller than a dense one {numbers}."


def _theory(data: ReportInput) -> str:
    theory = at(data.mask, "table", "theoretical_speedup")
    if theory is None:
        return ""
    text = f"The theoretical speed-up, dense MACs / nonzero MACs, is {times(theory)}"
    ratios = _ratios(data)
    if theory <= 1 + NO_DIFFERENCE:
        return f"{text}: there was next to nothing to gain."
    if not ratios:
        return f"{text}; whether a runtime reaches it was not measured."
    best = 1 / min(ratios)
    if best < theory:
        return f"{text}; no runtime measured here reaches it (the best pair: {times(best)})."
    return f"{text}; the best pair measured here reaches it ({times(best)})."
