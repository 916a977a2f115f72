"""ERK: random masks with Erdos-Renyi-Kernel layer densities (Evci et al., "RigL", ICML 2020).

    density of a layer ~ (in + out + kh + kw) / (in * out * kh * kw)        a Linear: (in + out) / (in * out)

up to the one factor that meets the budget; a layer that would exceed 1 stays whole. Needs no data and reads no weight.

Where it differs from the reference codes: their counts are met on average, these exactly (random.py).
"""

from __future__ import annotations

import torch

from ntksap_export.pruning.scorers.random import RandomDensities


def erk() -> RandomDensities:
    """The scorer."""
    return RandomDensities(share=erk_share)


def erk_share(shape: torch.Size) -> float:
    """Sum of the shape's sides over their product."""
    return sum(shape) / shape.numel()
