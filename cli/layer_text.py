"""Node times on a terminal: a line per module, the variants of a cell side by side."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Layer = Mapping[str, Any]  # one of the `layers` of profile.json
_COLUMNS: Final = ("ms", "share", "density", "GFLOP/s", "of peak")
_WIDTHS: Final = (8, 6, 7, 7, 7)
_BLOCK: Final = sum(_WIDTHS) + len(_WIDTHS) + 1
_LONGEST: Final = 36  # characters of a module's name
_WIDE: Final = 120  # characters, where there is no terminal


@dataclass(slots=True)
class _Sum:
    """What all nodes of one module take and do."""

    ms: float = 0.0
    share: float = 0.0
    macs: int = 0
    nonzero: int = 0
    peaks: list[float] = field(default_factory=list)

    def add(self, node: Mapping[str, Any]) -> None:
        self.ms += node["ms"]
        self.share += node["share"]
        self.macs += node["macs"] or 0
        self.nonzero += node["nonzero_macs"] or 0
        if node["share_of_peak"]:
            self.peaks.append(node["gflops"] / node["share_of_peak"])

    @property
    def gflops(self) -> float | None:
        return 2 * self.macs / self.ms / 1e6 if self.macs and self.ms else None


def layer_tables(
    layers: Sequence[Layer],
    machine: Mapping[str, Any] | None = None,
    pruned: str = "sparse",
    width: int | None = None,
) -> list[str]:
    """A table for each backend, precision, batch and number of threads; then what could not be watched.

    Args:
        layers: of profile.json.
        machine: of profile.json; None where it was not measured.
        pruned: what the variant `sparse` is called here.
        width: characters in a line; None is the terminal's. Variants that do not fit side by side follow below.
    """
    width = width or shutil.get_terminal_size((_WIDE, 24)).columns
    groups: dict[tuple[Any, ...], list[Layer]] = {}
    for layer in layers:
        if layer["nodes"]:
            key = tuple(layer[name] for name in ("backend", "device", "precision", "batch", "threads"))
            groups.setdefault(key, []).append(layer)
    lines: list[str] = []
    for key, group in groups.items():
        lines += ["", _title(key, machine or {}), *_table(group, pruned, width), *_watched(group, pruned)]
    skipped = {f"{layer['backend']}: nodes not timed, {layer['reason']}" for layer in layers if not layer["nodes"]}
    return lines[1:] + sorted(skipped)


def _title(key: tuple[Any, ...], machine: Mapping[str, Any]) -> str:
    backend, device, precision, batch, threads = key
    title = f"{backend} on {device}, {precision}, batch {batch}, {threads} thread{'' if threads == 1 else 's'}"
    known = []
    for name, unit in ((_peak_of(precision), "GFLOP/s"), ("bandwidth_gb_s", "GB/s")):
        if value := (machine.get(name) or {}).get(str(threads)):
            known.append(f"{value:.0f} {unit}")
    return f"{title}; this machine at its best: {', '.join(known)}" if known else title


def _peak_of(precision: str) -> str:
    return "peak_gflops" if precision == "fp32" else f"peak_gflops_{precision}"


def _table(group: Sequence[Layer], pruned: str, width: int) -> list[str]:
    sums = [_by_module(layer) for layer in group]
    names = list(dict.fromkeys(name for each in sums for name in each))
    left = min(_LONGEST, max(len("unattributed"), *map(len, names)))
    at_once = max(1, (width - left) // _BLOCK)
    lines = []
    for first in range(0, len(group), at_once):
        shown, mine = group[first : first + at_once], sums[first : first + at_once]
        lines.append(f"{'':{left}}" + "".join(f"  {_name(layer, pruned):>{_BLOCK - 2}}" for layer in shown))
        lines.append(f"{'module':{left}}" + "".join(_block(_COLUMNS) for _ in shown))
        for name in names:
            cells = "".join(_block(_cells(each.get(name))) for each in mine)
            lines.append(f"{_short(name, left):{left}}{cells}".rstrip())
        for name, key in (("unattributed", "unattributed_ms"), ("total", "total_ms")):
            ends = [(f"{layer[key]:.3f}", f"{layer[key] / layer['total_ms']:.1%}", "", "", "") for layer in shown]
            lines.append(f"{name:{left}}{''.join(map(_block, ends))}".rstrip())
    return lines


def _by_module(layer: Layer) -> dict[str, _Sum]:
    """By module in order; nodes of none stand under their operator."""
    sums: dict[str, _Sum] = {}
    for node in layer["nodes"]:
        sums.setdefault(node["module"] or f"({node['op']})", _Sum()).add(node)
    return sums


def _cells(found: _Sum | None) -> tuple[str, ...]:
    if found is None:
        return ("-", "", "", "", "")
    peak = max(found.peaks, default=None)
    return (
        f"{found.ms:.3f}",
        f"{found.share:.1%}",
        f"{found.nonzero / found.macs:.1%}" if found.macs else "",
        f"{found.gflops:.1f}" if found.gflops is not None else "",
        f"{found.gflops / peak:.0%}" if found.gflops is not None and peak else "",
    )


def _block(texts: Sequence[str]) -> str:
    return " " + "".join(f" {text:>{width}}" for text, width in zip(texts, _WIDTHS, strict=True))


def _watched(group: Sequence[Layer], pruned: str) -> list[str]:
    """By how much being watched slowed each down."""
    said = [
        f"{_name(layer, pruned)} {layer['total_ms'] / layer['plain_ms'] - 1:+.0%}"
        for layer in group
        if layer.get("plain_ms")
    ]
    return [f"the watched calls took longer than others by: {', '.join(said)}"] if said else []


def _name(layer: Layer, pruned: str) -> str:
    return pruned if layer["variant"] == "sparse" else str(layer["variant"])


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else f"...{text[3 - width :]}"
