"""LAMP: keep the weights that are large beside what their layer keeps anyway (Lee et al., ICLR 2021).

    score = w^2 / (sum of v^2 over the weights v of its layer with |v| >= |w|)

The largest weight of a layer scores 1, so that no layer is emptied before all the others; one threshold over all layers
gives each its density, with nothing to tune. Needs no data. For trained networks.

Where it differs from the reference code: equal weights have equal scores (there the order of a sort decides which of
them counts in the other's sum).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ntksap_export.masks import Mask
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.pruning.scorers.gradients import Tensors, initial_weights


@dataclass(frozen=True, slots=True)
class Lamp:
    """The scorer."""

    default_rounds: int = 1
    revives: bool = False

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Tensors:  # noqa: ARG002
        """Score every weight of `mask`, in float64; see `Scorer.score`."""
        return {name: _scores(weight.double() * mask[name]) for name, weight in initial_weights(model, mask).items()}


def _scores(weight: torch.Tensor) -> torch.Tensor:
    values, place, counts = torch.unique(weight.square(), return_inverse=True, return_counts=True)  # ascending
    no_smaller = (values * counts).flip(0).cumsum(0).flip(0)
    return torch.where(no_smaller > 0, values / no_smaller, 0.0)[place]
