"""How many processes stand side by side: cells that are to be interleaved, cut so that each part fits in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil

from ntksap_export.profiling.cells import Cell

MOST: Final = 32
_CGROUP: Final = Path("/sys/fs/cgroup")
_SHARE: Final = 0.8  # of the free memory


def free_bytes() -> int:
    """What processes may still take on this machine, and in this container where it has a limit."""
    free = int(psutil.virtual_memory().available)
    try:
        limit, used = ((_CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return free
    return min(free, max(0, int(limit) - int(used))) if limit.isdigit() else free


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
        if any(cell in group for group in (*groups, current)):
            continue  # as the baseline of another
        needed = [cell]
        while (reference := baseline_of(needed[0], cells, baseline)) is not None:
            needed.insert(0, reference)
        if current and not _fits([*current, *(each for each in needed if each not in current)], free):
            groups.append(current)
            current = []
        current = [*current, *(each for each in needed if each not in current)]
    return [*groups, current] if current else groups


def _fits(cells: Sequence[Cell], free: float) -> bool:
    return len(cells) <= MOST and sum(cell.estimated_bytes for cell in cells) <= _SHARE * free
