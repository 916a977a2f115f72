"""How many processes stand side by side: cells that are to be interleaved, cut so that each part fits in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import psutil

from ntksap_export.profiling.cells import Cell

MOST: Final = 32
_SHARE: Final = 0.8  # of the free memory


def free_bytes() -> int:
    """What processes may still take on this machine."""
    return int(psutil.virtual_memory().available)


def baseline_of(cell: Cell, cells: Sequence[Cell], baseline: str) -> Cell | None:
    """What it is compared with: the baseline of its backend and load in its precision, else in fp32; not itself."""
    there = {
        each.precision: each
        for each in cells
        if each.variant.name == baseline and each.backend == cell.backend and each.load == cell.load
    }
    own = None if cell.variant.name == baseline else there.get(cell.precision)
    found = own or there.get("fp32")
    return None if found is cell else found


def side_by_side(cells: Sequence[Cell], baseline: str, free: float) -> list[list[Cell]]:
    """Cells of one load in groups that fit in `free` bytes, each with the baselines of its cells in it.

    A baseline that is in several groups is measured in each; the first is its own row, the others only carry ratios.
    Groups of one cell and its baseline are made however little memory there is.
    """
    groups: list[list[Cell]] = []
    current: list[Cell] = []
    for cell in cells:
        reference = baseline_of(cell, cells, baseline)
        together = [each for each in (reference, cell) if each is not None and each not in current]
        if current and not _fits([*current, *together], free):
            groups.append(current)
            current = [each for each in (reference, cell) if each is not None]
        else:
            current = [*current, *together]
    return [*groups, current] if current else groups


def _fits(cells: Sequence[Cell], free: float) -> bool:
    return len(cells) <= MOST and sum(cell.estimated_bytes for cell in cells) <= _SHARE * free
