"""FORCE: keep what matters to the network that is left, and let what was pruned come back (de Jorge et al., ICLR 2021).

    score = | w * dL/dw' |       w the initial weights, pruned ones included; the gradient at w' = w * m

Reads images and labels. BatchNorm uses batch statistics, held constant on request. 60 rounds of an exponential
schedule; each round chooses among all weights, so that masks are not nested.

Where it differs from the reference code: the loss is the cross-entropy (see snip.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ntksap_export.masks import Mask
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.pruning.scorers.gradients import (
    Tensors,
    initial_weights,
    loss_gradients,
    masked_weights,
    modes,
)


@dataclass(frozen=True, slots=True)
class Force:
    """The scorer."""

    default_rounds: int = 60
    revives: bool = True

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Tensors:  # noqa: ARG002
        """Score every weight, pruned ones included; see `Scorer.score`."""
        with modes(model, inputs.norms):
            gradients = loss_gradients(model, masked_weights(model, mask), inputs)
        return {name: (weight * gradients[name]).abs_() for name, weight in initial_weights(model, mask).items()}
