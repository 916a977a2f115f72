"""Cells of a profile, paired dense against sparse: same backend, device, precision, batch and threads."""

from __future__ import annotations

from dataclasses import dataclass

from ntksap_export.config import pruned_name
from ntksap_export.report.inputs import Json, ReportInput, at, flag


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and how a cell ran; `threads` is None on a device that does not count them."""

    backend: str
    device: str
    precision: str
    batch: int
    threads: int | None

    @property
    def load(self) -> str:
        """Batch and threads, in words."""
        if self.threads is None:
            return f"batch {self.batch}"
        return f"batch {self.batch}, {self.threads} thread{'' if self.threads == 1 else 's'}"

    @property
    def place(self) -> str:
        """Backend, device and precision, in words."""
        return f"{self.backend}, {self.device}, {self.precision}"

    @property
    def label(self) -> str:
        """All of it, in words."""
        return f"{self.place}, {self.load}"


@dataclass(frozen=True, slots=True)
class Pair:
    """One setting and its measured cells; either may be missing, not both. The sparse one is called `pruned`."""

    setting: Setting
    dense: Json | None
    sparse: Json | None
    pruned: str = "sparse"

    @property
    def time_ratio(self) -> float | None:
        """Sparse p50 / dense p50: below 1 the sparse network is faster. None unless both were measured."""
        dense, sparse = at(self.dense, "latency_ms", "p50"), at(self.sparse, "latency_ms", "p50")
        return float(sparse) / float(dense) if sparse is not None and dense else None

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
    )


def measured_cells(profile: Json) -> list[Json]:
    """Cells with a latency, in the order of the profile."""
    return [cell for cell in at(profile, "cells", default=[]) if at(cell, "latency_ms", "p50") is not None]


def skipped_cells(profile: Json) -> list[Json]:
    """Cells without a latency: each has a reason."""
    return [cell for cell in at(profile, "cells", default=[]) if at(cell, "latency_ms", "p50") is None]


def pruned_of(data: ReportInput) -> str:
    """What the pruned network of a run is called: `sparse`, `slim` or `slim+sparse`."""
    return pruned_name(str(flag(data, "pattern", "unstructured")))


def variant_of(cell: Json, pruned: str, default: str) -> str:
    """The name of a cell's variant, for a reader."""
    name = str(at(cell, "variant", default=default))
    return pruned if name == "sparse" else name


def pair_cells(profile: Json, pruned: str = "sparse") -> list[Pair]:
    """Measured cells by setting, in the order in which settings first appear."""
    by_setting: dict[Setting, dict[str, Json]] = {}
    for cell in measured_cells(profile):
        by_setting.setdefault(setting_of(cell), {})[str(at(cell, "variant", default=""))] = cell
    pairs = (Pair(setting, cells.get("dense"), cells.get("sparse"), pruned) for setting, cells in by_setting.items())
    return [pair for pair in pairs if pair.dense or pair.sparse]


def paired_cells(profile: Json) -> list[Json]:
    """Measured cells, dense and sparse of one setting next to each other."""
    return [cell for pair in pair_cells(profile) for cell in (pair.dense, pair.sparse) if cell]


def headline_pair(profile: Json, pruned: str = "sparse") -> Pair | None:
    """The pair a summary quotes: onnxruntime and CPU before others, the smallest batch, the most threads."""
    complete = [pair for pair in pair_cells(profile, pruned) if pair.time_ratio is not None]
    return min(complete, key=_prominence, default=None)


def _prominence(pair: Pair) -> tuple[bool, bool, int, int]:
    setting = pair.setting
    return (
        setting.backend != "onnxruntime",
        setting.device != "cpu",
        setting.batch,
        -(setting.threads or 0),
    )
