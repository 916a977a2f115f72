"""SNIP: keep the weights whose removal would change the loss most (Lee, Ajanthan & Torr, ICLR 2019).

    score = | w * dL/dw |        L the cross-entropy, summed over the scoring batches before the absolute value

Reads images and labels (the authors: one batch; 10 images a class in the comparisons of SynFlow and NTK-SAP, our
default). BatchNorm uses batch statistics, held constant on request. One shot: all is removed after one look.

Iter-SNIP (de Jorge et al., "Progressive skeletonization", ICLR 2021): the same score, taken anew on the network that
is left, over 60 rounds of an exponential schedule; what was pruned stays pruned.

Where they differ from the reference codes: the original SNIP draws other weights for training than it scored and may
prune biases; here the weights that are scored are trained, biases stay. FORCE's repository differentiates the raw
logit of the right class instead of the cross-entropy, for want of a softmax; here it is the cross-entropy.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ntksap_export.masks import Mask
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.pruning.scorers.gradients import Tensors, loss_gradients, masked_weights, modes


@dataclass(frozen=True, slots=True)
class Snip:
    """The scorer; with `default_rounds=60` it is Iter-SNIP."""

    default_rounds: int = 1
    revives: bool = False

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Tensors:  # noqa: ARG002
        """Score every weight of `mask`; see `Scorer.score`."""
        with modes(model, inputs.norms):
            weights = masked_weights(model, mask)
            gradients = loss_gradients(model, weights, inputs)
        return {name: (weights[name].detach() * gradient).abs_() for name, gradient in gradients.items()}


def iterative() -> Snip:
    """Iter-SNIP."""
    return Snip(default_rounds=60)
