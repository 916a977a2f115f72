"""Cells of a profile: where each ran, what it is called, and what it is compared with."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ntksap_export.config import pruned_name
from ntksap_export.report.inputs import Json, ReportInput, at, flag

_SERIES = {
    ("dense", "fp32"): 0,
    ("sparse", "fp32"): 1,
    ("sparse", "int8"): 2,
    ("sparse", "fp16"): 3,
    ("sparse", "bf16"): 5,
    ("engine", "fp32"): 6,
}
_OTHER_SERIES = {"dense": 7}


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and how a cell ran; `threads` is None on a device that does not count them."""

    backend: str
    device: str
    precision: str
    batch: int
    threads: int | None
    streams: int = 1

    @property
    def load(self) -> str:
        """Batch, threads and streams, in words."""
        parts = [f"batch {self.batch}"]
        if self.threads is not None:
            parts.append(f"{self.threads} thread{'' if self.threads == 1 else 's'}")
        return ", ".join([*parts, *([f"{self.streams} streams"] if self.streams != 1 else [])])

    @property
    def place(self) -> str:
        """Backend, device and precision, in words."""
        return f"{self.backend}, {self.device}, {self.precision}"

    @property
    def label(self) -> str:
        """All of it, in words."""
        return f"{self.place}, {self.load}"

    @property
    def spot(self) -> Setting:
        """The same for every precision: cells of one spot are compared."""
        return replace(self, precision="")

    @property
    def spot_words(self) -> str:
        """The spot, without the batch and the device, which a picture's caption names."""
        return ", ".join([self.backend, *self.load.split(", ")[1:]])


@dataclass(frozen=True, slots=True)
class Ratio:
    """Time of a cell / time of its baseline, of medians; the interval is None where only two medians are known."""

    value: float
    low: float | None
    high: float | None
    baseline: str


@dataclass(frozen=True, slots=True)
class Pair:
    """One setting and its measured cells; either may be missing, not both. The sparse one is called `pruned`."""

    setting: Setting
    dense: Json | None
    sparse: Json | None
    pruned: str = "sparse"

    @property
    def ratio(self) -> Ratio | None:
        """Of the sparse cell to the dense one: below 1 the sparse network is faster. None unless both were measured."""
        if self.sparse is None or self.dense is None:
            return None
        return _told_ratio(self.sparse) or _ratio_of_medians(self.sparse, self.dense)

    @property
    def noisy(self) -> bool:
        """Whether one of the two timings doubts itself."""
        notes = (str(at(cell, "noise", default="steady")) for cell in (self.dense, self.sparse))
        return any(note.startswith("noisy") for note in notes)


def setting_of(cell: Json) -> Setting:
    threads = at(cell, "threads")
    return Setting(
        backend=str(at(cell, "backend", default="unknown backend")),
        device=str(at(cell, "device", default="cpu")),
        precision=str(at(cell, "precision", default="fp32")),
        batch=int(at(cell, "batch", default=1)),
        threads=None if threads is None else int(threads),
        streams=int(at(cell, "streams", default=1)),
    )


def p50(cell: Json | None) -> float | None:
    value = at(cell, "latency_ms", "p50")
    return None if value is None else float(value)


def measured_cells(profile: Json) -> list[Json]:
    """Cells with a latency, in the order of the profile."""
    return [cell for cell in at(profile, "cells", default=[]) if p50(cell) is not None]


def skipped_cells(profile: Json) -> list[Json]:
    """Cells without a latency: each has a reason."""
    return [cell for cell in at(profile, "cells", default=[]) if p50(cell) is None]


def pruned_of(data: ReportInput) -> str:
    """What the pruned network of a run is called: `sparse`, `slim` or `slim+sparse`."""
    return pruned_name(str(flag(data, "pattern", "unstructured")))


def variant_of(cell: Json, pruned: str, default: str = "network") -> str:
    """The name of a cell's variant, for a reader."""
    name = str(at(cell, "variant", default=default))
    return pruned if name == "sparse" else name


def name_of(cell: Json, pruned: str) -> str:
    """Variant and precision; fp32 is not named."""
    precision = setting_of(cell).precision
    return variant_of(cell, pruned) + ("" if precision == "fp32" else f" {precision}")


def series_of(cell: Json) -> int:
    """The colour of a variant in a precision, the same in every picture."""
    variant, precision = str(at(cell, "variant", default="")), setting_of(cell).precision
    return _SERIES.get((variant, precision), _OTHER_SERIES.get(variant, 6))


def spots(profile: Json) -> dict[Setting, list[Json]]:
    """Measured cells by spot, in the order in which spots first appear; the dense ones first."""
    found: dict[Setting, list[Json]] = {}
    for cell in measured_cells(profile):
        found.setdefault(setting_of(cell).spot, []).append(cell)
    return {spot: sorted(cells, key=lambda cell: cell.get("variant") != "dense") for spot, cells in found.items()}


def ordered_cells(profile: Json) -> list[Json]:
    """Measured cells, those of one spot next to each other."""
    return [cell for cells in spots(profile).values() for cell in cells]


def pair_cells(profile: Json, pruned: str = "sparse") -> list[Pair]:
    """Measured cells by setting, in the order in which settings first appear."""
    by_setting: dict[Setting, dict[str, Json]] = {}
    for cell in measured_cells(profile):
        by_setting.setdefault(setting_of(cell), {})[str(at(cell, "variant", default=""))] = cell
    pairs = (Pair(setting, cells.get("dense"), cells.get("sparse"), pruned) for setting, cells in by_setting.items())
    return [pair for pair in pairs if pair.dense or pair.sparse]


def ratio_of(cell: Json, profile: Json) -> Ratio | None:
    """A cell against its baseline: as the profile tells it, else against the dense cell of its spot (fp32 at worst)."""
    if told := _told_ratio(cell):
        return told
    if at(cell, "variant") == "dense":
        return None
    setting = setting_of(cell)
    for precision in (setting.precision, "fp32"):
        for other in measured_cells(profile):
            if at(other, "variant") == "dense" and setting_of(other) == replace(setting, precision=precision):
                return _ratio_of_medians(cell, other)
    return None


def _told_ratio(cell: Json) -> Ratio | None:
    told = at(cell, "ratio")
    if at(told, "value") is None:
        return None
    low, high = at(told, "low"), at(told, "high")
    known = low is not None and high is not None
    return Ratio(
        value=float(told["value"]),
        low=float(low) if known else None,
        high=float(high) if known else None,
        baseline=str(at(told, "baseline", default="dense")),
    )


def _ratio_of_medians(cell: Json, baseline: Json) -> Ratio | None:
    one, other = p50(cell), p50(baseline)
    return Ratio(one / other, None, None, str(at(baseline, "variant", default="dense"))) if one and other else None


def headline_pair(profile: Json, pruned: str = "sparse") -> Pair | None:
    """The pair a summary quotes: onnxruntime and CPU before others, the smallest batch, the most threads."""
    complete = [pair for pair in pair_cells(profile, pruned) if pair.ratio is not None]
    return min(complete, key=lambda pair: prominence(pair.setting), default=None)


def engine_cell(profile: Json, pair: Pair) -> Json | None:
    """The cell of the sparse engine in the setting of a pair."""
    here = (cell for cell in measured_cells(profile) if at(cell, "variant") == "engine")
    return next((cell for cell in here if setting_of(cell) == pair.setting), None)


def engine_ratios(profile: Json) -> list[Ratio]:
    """Of every cell of the sparse engine that was compared with the dense network."""
    cells = (cell for cell in measured_cells(profile) if at(cell, "variant") == "engine")
    return [ratio for cell in cells if (ratio := ratio_of(cell, profile)) is not None and ratio.baseline == "dense"]


def prominence(setting: Setting) -> tuple[bool, bool, bool, int, int, int]:
    """Ascending: what a reader asks for first."""
    return (
        setting.backend != "onnxruntime",
        setting.device != "cpu",
        setting.precision not in ("fp32", ""),
        setting.batch,
        setting.streams,
        -(setting.threads or 0),
    )
