"""The same share of every group of channels: scope `layer`.

    ceil(share * n) of the n units of each group go, those of the lowest scores

The rule of the isometry papers (Wang et al., arXiv 2105.05916; TPP, ICLR 2023: a threshold per layer). Where only some
widths are allowed (`--round-to`, `--min-layer-density`), the next smaller one is taken, or the smallest there is.
"""

from __future__ import annotations

import math

from ntksap_export.pruning.narrowing import Bounds, Narrowing


def widths_without(narrowing: Narrowing, share: float) -> list[int]:
    """Units of each group that stay when `share` of them, in [0, 1], are to go."""
    widths = []
    for allowed in narrowing.widths:
        units = allowed[-1]
        most = units - math.ceil(share * units - 1e-9)  # 0.55 * 100 is above 55 in floating point
        widths.append(max((width for width in allowed if width <= most), default=allowed[0]))
    return widths


def weights_without(narrowing: Narrowing, share: float) -> int:
    """Prunable weights that stay when `share` of the units of each group are to go."""
    return narrowing.costs_at(_some(widths_without(narrowing, share)))[0]


def fit_evenly(narrowing: Narrowing, bounds: Bounds) -> None:
    """Give up the least share of every group with which `bounds` are met; it is one that is exact in some group.

    Args:
        narrowing: after `begin_round`.
        bounds: weights, MACs and time to keep at most, None where there is no bound; not below what is possible.
    """
    shares = sorted({gone / allowed[-1] for allowed in narrowing.widths for gone in range(allowed[-1])} | {1.0})
    low, high = 0, len(shares) - 1  # shares[high] fits; where lower ones may too
    while low < high:
        middle = (low + high) // 2
        costs = narrowing.costs_at(_some(widths_without(narrowing, shares[middle])))
        fits = all(bound is None or cost <= bound for cost, bound in zip(costs, bounds, strict=True))
        low, high = (low, middle) if fits else (middle + 1, high)
    narrowing.keep_best(widths_without(narrowing, shares[high]))


def _some(widths: list[int]) -> list[list[int]]:
    return [list(range(width)) for width in widths]
