"""Random masks with chosen layer densities: uniform, and Erdos-Renyi-Kernel (Evci et al., "RigL", ICML 2020).

    score = p_layer / r          r in (0, 1]: the weight's place in a random order of its layer, divided by its size

A layer keeps the share of its weights with r <= p_layer / threshold, or all of them: so one global threshold gives
layer l the density min(1, c * p_l) for the one c that meets the budget exactly, with no equation to solve.

    uniform:  p = 1
    ERK:      p = (in + out + kh + kw) / (in * out * kh * kw) for a convolution, (in + out) / (in * out) for a Linear

Need no data and read no weight; the mask depends on the seed and the shapes alone. Codes that draw each weight by
chance meet the count only on average; here it is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ntksap_export.masks import Mask
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.pruning.scorers.gradients import Tensors


@dataclass(frozen=True, slots=True)
class RandomDensities:
    """The scorer; `erk` chooses the layer densities."""

    erk: bool = False
    default_rounds: int = 1
    revives: bool = False

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Tensors:  # noqa: ARG002
        """Score every weight of `mask`, the same in every round; see `Scorer.score`."""
        generator = inputs.generator(torch.device("cpu"), 0)
        scores = {}
        for name, kept in mask.items():
            place = torch.randperm(kept.numel(), generator=generator).double().add_(1).div_(kept.numel())
            share = erk_share(kept.shape) if self.erk else 1.0
            scores[name] = (share / place).view(kept.shape).to(kept.device)
        return scores


def erk() -> RandomDensities:
    """Erdos-Renyi-Kernel."""
    return RandomDensities(erk=True)


def erk_share(shape: torch.Size) -> float:
    """The density of a layer, up to a factor common to all layers: sum of the shape's sides over their product."""
    return sum(shape) / shape.numel()
