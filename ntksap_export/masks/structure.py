"""Which pattern a mask follows, found from the mask alone.

    full, empty    everything kept, nothing kept
    channel        everything kept but whole channels
    n:m            no m weights next to each other keep more than n: `along` the input channels at each kernel position,
                   as `patterns.NofM` has it, or along the row of a weight seen as a matrix (out, the rest)
    unstructured   neither

Any mask that is sparse enough keeps few of m somewhere, so n:m is found only where chance hardly makes it: with q the
probability that a group of m weights kept with the mask's density d, each for itself, keeps at most n (exactly n, where
every group does), and G groups,

    q**G < 1e-6 (1e-3),   q = sum over i <= n of C(m, i) d**i (1 - d)**(m - i)

and of several n:m the one with the smallest q**G is named. Output channels that keep nothing are left out of it;
they and such input channels are counted whatever the pattern.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch

INPUTS: Final = "input channels"
ROWS: Final = "rows"
_LARGEST_GROUP: Final = 32
_AT_MOST: Final = math.log(1e-6)
_EXACT: Final = math.log(1e-3)


@dataclass(frozen=True, slots=True)
class Structure:
    """What was found in one mask of two or more axes, (out, in, *kernel).

    Attributes:
        pattern: `full`, `empty`, `channel`, `unstructured`, or an n:m such as `2:4`.
        along: `input channels` or `rows`, of an n:m; else None.
        outputs: output channels.
        empty_outputs: those of them that keep nothing.
        inputs: input channels, of one group of a convolution.
        empty_inputs: those of them that keep nothing.
    """

    pattern: str
    along: str | None
    outputs: int
    empty_outputs: int
    inputs: int
    empty_inputs: int


def find_structure(kept: torch.Tensor) -> Structure | None:
    """The pattern of a mask; None where it has fewer than two axes, or no elements.

    Args:
        kept: bool, (out, in, *kernel), on any device.
    """
    if kept.dim() < 2 or not kept.numel():
        return None
    rows = kept.reshape(*kept.shape[:2], -1)  # (out, in, positions)
    living_outputs, living_inputs = rows.flatten(1).any(1), rows.any(2).any(0)
    alive, living = int(kept.sum()), int(living_outputs.sum()) * int(living_inputs.sum()) * rows.shape[2]
    if alive in (0, living):
        pattern, along = ("full" if alive == kept.numel() else "channel" if alive else "empty"), None
    else:
        pattern, along = _pattern(kept[living_outputs])
    return Structure(
        pattern=pattern,
        along=along,
        outputs=kept.shape[0],
        empty_outputs=int((~living_outputs).sum()),
        inputs=kept.shape[1],
        empty_inputs=int((~living_inputs).sum()),
    )


def _pattern(kept: torch.Tensor) -> tuple[str, str | None]:
    views = {INPUTS: kept.movedim(1, -1)}  # (out, *kernel, in)
    if kept[0, 0].numel() > 1:
        views[ROWS] = kept.flatten(1)
    best: tuple[float, str, str | None] = (0.0, "unstructured", None)
    for along, view in views.items():
        for m in range(2, min(_LARGEST_GROUP, view.shape[-1]) + 1):
            if view.shape[-1] % m == 0:
                n, chance = _grouped(view, m, int(kept.sum()) / kept.numel())
                best = min(best, (chance, f"{n}:{m}", along), key=lambda found: found[0])
    return best[1:]


def _grouped(view: torch.Tensor, m: int, density: float) -> tuple[int, float]:
    """The most that m weights next to each other keep, and the logarithm of its chance; 0 where it says nothing."""
    counts = view.reshape(-1, m).sum(1, dtype=torch.uint8)
    least, n = int(counts.min()), int(counts.max())
    if n == m:
        return n, 0.0
    exact = least == n
    shares = [math.comb(m, i) * density**i * (1 - density) ** (m - i) for i in range(n if exact else 0, n + 1)]
    chance = len(counts) * math.log(min(1.0, math.fsum(shares)))
    return n, chance if chance < (_EXACT if exact else _AT_MOST) else 0.0
