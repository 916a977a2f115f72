"""The table of cells: networks side by side, each in its own process, their turns interleaved."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from ntksap_export.profiling.cells import Cell, Load, Variant, plan_cells
from ntksap_export.profiling.groups import baseline_of, free_bytes, side_by_side
from ntksap_export.profiling.isolated import CellError, IsolatedCell
from ntksap_export.profiling.rows import measured, ratio, skipped, with_facts
from ntksap_export.profiling.server import under_load
from ntksap_export.profiling.settings import Settings
from ntksap_export.profiling.turns import Turns, take_turns
from ntksap_export.progress import Progress, Silent, Task

__all__ = ["Variant", "profile"]


def profile(
    variants: Sequence[Variant],
    settings: Settings,
    *,
    baseline: str | None = None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Measure every variant in every cell.

    The cells of one (device, batch, threads, streams) take turns, whatever their variant, precision and backend, so
    that drift of the machine hits all alike.

    Args:
        variants: measured side by side; graphs of one network in several precisions have one name.
        settings: the cells, and the time that each gets.
        baseline: name of the variant that the others are compared with; None is `dense` if there, else the first.
        progress: where cells are shown.

    Returns:
        One row per cell (docs/profile.md has its keys), by backend, device, batch, threads, streams, variant and
        precision; a cell that cannot be measured has `status: skipped` and a reason, and `fallback: true` where the
        runtime took something else than asked.
    """
    if not variants:
        return []
    names = [variant.name for variant in variants]
    reference = baseline or ("dense" if "dense" in names else names[0])
    cells = plan_cells(variants, settings)
    rows: dict[tuple[int, ...], dict[str, Any]] = {}
    with (progress or Silent()).task("profile", len(cells)) as task:
        for load, own in _by_load(cells).items():
            able = [cell for cell in own if cell.reason is None]
            for group in side_by_side(able, reference, free_bytes()):
                found = _measure(group, able, reference, settings, task)
                task.advance(len(found.keys() - rows.keys()), note=_note(load))
                rows = {**found, **rows}  # a baseline that is in several groups has the row of the first
            missing = [cell for cell in own if cell.reason is not None]
            rows |= {cell.rank: skipped(cell.head, CellError(str(cell.reason))) for cell in missing}
            task.advance(len(missing), note=_note(load))
    return [with_facts(rows[cell.rank], cell.variant, cell.backend, settings) for cell in cells]


@dataclass
class _Running:
    """A cell, its process, and its turns."""

    cell: Cell
    process: IsolatedCell
    turns: Turns


def _by_load(cells: Sequence[Cell]) -> dict[Load | None, list[Cell]]:
    found: dict[Load | None, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.load, []).append(cell)
    return found


def _measure(
    group: Sequence[Cell], cells: Sequence[Cell], baseline: str, settings: Settings, task: Task
) -> dict[tuple[int, ...], dict[str, Any]]:
    """The rows of cells that stand side by side."""
    rows: dict[tuple[int, ...], dict[str, Any]] = {}
    with ExitStack() as stack:
        running: list[_Running] = []
        for cell in group:
            task.advance(0, f"{_note(cell.load)}: {cell.variant.name} in {cell.backend} warms up")
            try:
                _check_fits(cell)
                process = stack.enter_context(IsolatedCell(cell.spec(settings)))
            except CellError as error:
                rows[cell.rank] = skipped(cell.head, error)
            else:
                running.append(_Running(cell, process, Turns(process)))
        pairs = _partners(running, cells, baseline)
        for each in running:
            each.process.ready["options"]["side_by_side"] = len(running)

        def tell(turn: int, left: int) -> None:
            task.advance(0, f"{_note(group[0].load)}: turn {turn}, {left} of {len(running)} go on")

        take_turns([each.turns for each in running], settings, tell)
        for each in running:
            rows[each.cell.rank] = _row(each, settings)
        for each in running:
            other = pairs.get(each.cell.rank)
            if other is not None and {"measured"} == {rows[one.cell.rank]["status"] for one in (each, other)}:
                rows[each.cell.rank] |= ratio(each.turns, other.turns, other.cell)
    return rows


def _partners(running: Sequence[_Running], cells: Sequence[Cell], baseline: str) -> dict[tuple[int, ...], _Running]:
    """What each cell is compared with; both go on until both are known."""
    by_rank, pairs = {each.cell.rank: each for each in running}, {}
    for each in running:
        reference = baseline_of(each.cell, cells, baseline)
        if reference is not None and reference.rank in by_rank:
            other = pairs[each.cell.rank] = by_rank[reference.rank]
            other.turns.partners.append(each.turns)
            each.turns.partners.append(other.turns)
    return pairs


def _row(each: _Running, settings: Settings) -> dict[str, Any]:
    """Its numbers; what its process says at the end is asked for here."""
    if each.turns.failed is not None:
        return skipped(each.cell.head, each.turns.failed)
    try:
        load = under_load(each.process, each.turns, each.cell.head, settings)
        last = each.process.stop()
    except CellError as error:
        return skipped(each.cell.head, error)
    return {**measured(each.cell.head, each.turns, each.process.ready, last, settings), **load}


def _check_fits(cell: Cell) -> None:
    """What cannot fit for certain is not tried: the system would end other processes to make room."""
    if cell.device == "cpu" and cell.input_bytes > (free := free_bytes()):
        need = f"its images alone take {cell.input_bytes / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
        raise CellError(f"batch {cell.head['batch']} does not fit in memory: {need}", "memory")


def _note(load: Load | None) -> str:
    if load is None:
        return ""
    device, batch, threads, streams = load
    words = f"{device}, batch {batch}, {threads} thread{'' if threads == 1 else 's'}"
    return f"{words}, {streams} streams" if streams > 1 else words
