"""The table of cells: variants side by side, each in its own process, their runs interleaved."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntksap_export.profiling.isolated import CellError, IsolatedCell
from ntksap_export.profiling.measure import MIN_RUNS
from ntksap_export.profiling.settings import Settings
from ntksap_export.profiling.statistics import summarize
from ntksap_export.progress import Progress, Silent
from ntksap_export.runtime import backends as backends_table

SLICES = 5  # each variant runs this often in turn, so that drift of the machine hits all alike


@dataclass(frozen=True, slots=True)
class Variant:
    """One network to measure.

    Attributes:
        name: `sparse`, `dense`, ...
        graph: its ONNX file, or None.
        model: arguments of `networks.build`, or None when there is no torch model.
        checkpoint: its weights; None leaves the random ones.
        shape: (C, H, W).
        channels: the channels.json of a network without some of its channels.
        precision: of its numbers.
    """

    name: str
    graph: Path | None
    model: Mapping[str, Any] | None
    checkpoint: Path | None
    shape: tuple[int, int, int] | None
    channels: Path | None = None
    precision: str = "fp32"


def profile(
    variants: Sequence[Variant],
    settings: Settings,
    *,
    baseline: str | None = None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Measure every variant in every cell.

    Args:
        variants: measured side by side.
        settings: the cells, and the time that each gets.
        baseline: name of the variant that the others are compared with; None is `dense` if there, else the first.
        progress: where cells are shown.

    Returns:
        One row per variant and cell; a cell that cannot be measured has `status: skipped` and a reason.
    """
    _ = baseline
    cells = list(_cells(settings.backends, settings.devices, settings.batches, settings.threads))
    rows: list[dict[str, Any]] = []
    with (progress or Silent()).task("profile", len(cells)) as task:
        for cell in cells:
            rows += _measure_cell(variants, cell, settings.min_time_s)
            task.advance(note=" ".join(str(value) for value in cell.values() if value is not None))
    return rows


def _cells(
    backends: Sequence[str], devices: Sequence[str], batches: Sequence[int], threads: Sequence[int]
) -> Iterator[dict[str, Any]]:
    for backend in backends:
        for device in devices:
            if reason := backends_table.unavailable(backend, device):
                yield {"backend": backend, "device": device, "batch": None, "threads": None, "reason": reason}
                continue
            for batch in batches:
                for count in threads if device == "cpu" else threads[:1]:
                    yield {
                        "backend": backend,
                        "device": device,
                        "batch": batch,
                        "threads": count,
                        "reason": None,
                    }


def _measure_cell(variants: Sequence[Variant], cell: dict[str, Any], seconds: float) -> list[dict[str, Any]]:
    rows = []
    with ExitStack() as stack:
        running: list[tuple[dict[str, Any], IsolatedCell, list[float]]] = []
        for variant in variants:
            if variant.precision != "fp32" and backends_table.takes_model(cell["backend"]):
                continue  # those are graphs alone
            row = {"variant": variant.name, "precision": variant.precision, **cell}
            rows.append(row)
            try:
                spec = _spec(variant, cell)
                running.append((row, stack.enter_context(IsolatedCell(spec)), []))
            except CellError as error:
                row.update(status="skipped", reason=str(error))
        _interleave(running, seconds)
    return rows


def _interleave(running: list[tuple[dict[str, Any], IsolatedCell, list[float]]], seconds: float) -> None:
    for _ in range(SLICES):
        for row, process, times in running:
            if row.get("status") != "skipped":
                try:
                    times += process.run(seconds / SLICES, -(-MIN_RUNS // SLICES))
                except CellError as error:
                    row.update(status="skipped", reason=str(error))
    for row, process, times in running:
        if row.get("status") == "skipped":
            continue
        try:
            memory = process.memory()
        except CellError as error:
            row.update(status="skipped", reason=str(error))
            continue
        row.update(
            status="measured",
            reason=None,
            **summarize(times, row["batch"]),
            **process.ready,
            memory=memory,
            times_ms=[round(value, 4) for value in times],
        )


def _spec(variant: Variant, cell: Mapping[str, Any]) -> dict[str, Any]:
    if cell["reason"]:
        raise CellError(cell["reason"])
    common = {key: cell[key] for key in ("backend", "device", "batch", "threads")}
    shape = list(variant.shape) if variant.shape else None
    if backends_table.takes_model(cell["backend"]):
        if variant.model is None:
            raise CellError("an ONNX file has no torch model; profile the run directory instead")
        checkpoint = str(variant.checkpoint) if variant.checkpoint else None
        channels = str(variant.channels) if variant.channels else None
        from ntksap_export import networks

        # The user's own code must be found there as it was here.
        path = {"sys_path": list(sys.path)} if networks.is_own(str(variant.model["name"])) else {}
        return {
            **common,
            **path,
            "model": dict(variant.model),
            "checkpoint": checkpoint,
            "channels": channels,
            "shape": shape,
        }
    if variant.graph is None:
        raise CellError("there is no ONNX graph; run `ntksap export` first")
    return {**common, "graph": str(variant.graph), "shape": shape}
