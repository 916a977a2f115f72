"""Random: the same density in every layer, by chance; and what other random masks with chosen densities share.

    score = p_layer / r          r in (0, 1]: the weight's place in a random order of its layer, divided by its size

A layer keeps the share of its weights with r <= p_layer / threshold, or all of them: so one global threshold gives
layer l the density min(1, c * p_l) for the one c that meets the budget exactly, with no equation to solve. Uniform is
p = 1; see erk.py for another choice.

Needs no data and reads no weight; the mask depends on the seed and the shapes alone. Codes that draw each weight by
chance meet the count only on average; here it is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ntksap_export.masks import Mask
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.pruning.scorers.gradients import Tensors


def uniform_share(shape: torch.Size) -> float:  # noqa: ARG001
    """1: all layers alike."""
    return 1.0


@dataclass(frozen=True, slots=True)
class RandomDensities:
    """The scorer.

    Attributes:
        share: the density of a layer by the shape of its weight, up to a factor common to all layers.
    """

    share: Callable[[torch.Size], float] = uniform_share
    default_rounds: int = 1
    revives: bool = False

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Tensors:  # noqa: ARG002
        """Score every weight of `mask`, the same in every round; see `Scorer.score`."""
        generator = inputs.generator(torch.device("cpu"), 0)
        scores = {}
        for name, kept in mask.items():
            place = torch.randperm(kept.numel(), generator=generator).double().add_(1).div_(kept.numel())
            scores[name] = (self.share(kept.shape) / place).view(kept.shape).to(kept.device)
        return scores
