"""ERK: random masks with Erdos-Renyi-Kernel layer densities (Evci et al., "RigL", ICML 2020).

    density of a layer ~ (in + out + kh + kw) / (in * out * kh * kw)        a Linear: (in + out) / (in * out)

up to the one factor that meets the budget; a layer that would exceed 1 stays whole. Needs no data and reads no weight.

Where it differs from the reference codes: their counts are met on average, these exactly (random.py).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ntksap_export.pruning.scorers.random import RandomDensities


def erk() -> RandomDensities:
    """The scorer."""
    return RandomDensities(share=erk_share)


def erk_share(shape: torch.Size) -> float:
    """Sum of the shape's sides over their product."""
    return sum(shape) / shape.numel()


def erk_densities(shapes: Mapping[str, torch.Size], density: float) -> dict[str, float]:
    """The layer densities that keep `density` of all weights, each at most 1; not rounded to whole weights.

    Args:
        shapes: of the weights, by name.
        density: in [0, 1], of all of them together.
    """
    kept = density * sum(shape.numel() for shape in shapes.values())
    whole: set[str] = set()
    while True:
        left = kept - sum(shapes[name].numel() for name in whole)
        sides = sum(sum(shape) for name, shape in shapes.items() if name not in whole)  # density * size, without factor
        factor = max(left, 0.0) / sides if sides else 0.0
        full = {name for name, shape in shapes.items() if name not in whole and factor * erk_share(shape) > 1}
        if not full:
            return {name: 1.0 if name in whole else factor * erk_share(shape) for name, shape in shapes.items()}
        whole |= full
