"""Taylor: keep what would change the loss most to first order (Molchanov et al., CVPR 2019).

    score = (w * dL/dw)^2        L the mean cross-entropy of all scoring images

The squared change of the loss when the weight goes, linearized; of several weights that go together the sum of their
scores counts (the paper's equation 8 for each parameter, summed over a filter). Reads images and labels. For trained
networks: BatchNorm uses its running statistics.

Where it differs from the reference code: that averages the squares of the mini-batches of a running training and puts
gates behind the norms; here one gradient over all scoring batches is squared, once a round, for each weight.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ntksap_export.masks import Mask
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.pruning.scorers.gradients import Tensors, loss_gradients, masked_weights, modes


@dataclass(frozen=True, slots=True)
class Taylor:
    """The scorer."""

    default_rounds: int = 1
    revives: bool = False

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Tensors:  # noqa: ARG002
        """Score every weight of `mask`, in float64; see `Scorer.score`."""
        with modes(model):
            weights = masked_weights(model, mask)
            gradients = loss_gradients(model, weights, inputs)
        # float64: squares of a well-trained network's gradients would leave the range of float32.
        return {
            name: (weights[name].detach().double() * gradient / inputs.batches).square()
            for name, gradient in gradients.items()
        }
