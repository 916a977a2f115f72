"""SNIP: keep the weights whose removal would change the loss most (Lee, Ajanthan & Torr, ICLR 2019).

    score = | w * dL/dw |        L the cross-entropy, summed over the scoring batches before the absolute value

Reads images and labels (the authors: one batch; 10 images a class in the comparisons of SynFlow and NTK-SAP, our
default). BatchNorm uses batch statistics, held constant on request. One shot: all is removed after one look.

Where it differs from the reference code: that draws other weights for training than it scored and may prune biases;
here the weights that are scored are trained, biases stay.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ntksap_export.masks import Mask
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.pruning.scorers.gradients import Tensors, loss_gradients, masked_weights, modes


@dataclass(frozen=True, slots=True)
class Snip:
    """The scorer."""

    default_rounds: int = 1
    revives: bool = False

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Tensors:  # noqa: ARG002
        """Score every weight of `mask`; see `Scorer.score`."""
        with modes(model, inputs.norms):
            weights = masked_weights(model, mask)
            gradients = loss_gradients(model, weights, inputs)
        return {name: (weights[name].detach() * gradient).abs_() for name, gradient in gradients.items()}
