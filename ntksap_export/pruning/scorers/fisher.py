"""Fisher: keep what would change the loss most to second order (Theis et al. 2018, after LeCun's optimal brain damage).

    score = 1/2 w^2 F_ww        F_ww = mean over the images of (dL_n/dw)^2, L_n the cross-entropy of image n

At a minimum the empirical Fisher information stands in for the diagonal of the Hessian, and is never negative. Reads
images and labels. For trained networks: BatchNorm uses its running statistics, so that an image has a loss of its own.

The square is inside of the mean: gradients are taken image by image. Where it differs from the paper (arXiv
1801.05787): that scores whole feature maps by their activations' gradients and subtracts a price of FLOPs (`--flops`
has prices); here each weight is scored, and what goes together is summed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from ntksap_export.masks import Mask
from ntksap_export.pruning.distributed import sum_in_order
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.pruning.scorers.gradients import Tensors, call, masked_weights, modes


@dataclass(frozen=True, slots=True)
class Fisher:
    """The scorer."""

    default_rounds: int = 1
    revives: bool = False

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Tensors:  # noqa: ARG002
        """Score every weight of `mask`, in float64; see `Scorer.score`."""
        with modes(model):
            weights = masked_weights(model, mask)
            squares = _squared_gradients(model, weights, inputs)
        images = inputs.batches * inputs.batch_size
        return {
            name: weight.detach().double().square() * squares[name] / (2 * images) for name, weight in weights.items()
        }


def _squared_gradients(model: nn.Module, weights: Tensors, inputs: ScoringInputs) -> Tensors:
    """The squares of each image's gradient, summed over all scoring images, in float64."""
    sums = {name: torch.zeros_like(weight, dtype=torch.float64) for name, weight in weights.items()}
    device = next(model.parameters()).device

    def squares(batch: int) -> Tensors:
        images, labels = inputs.labelled(batch, device)
        total = {name: torch.zeros_like(own) for name, own in sums.items()}
        for index in range(len(images)):
            one = slice(index, index + 1)
            loss = functional.cross_entropy(call(model, weights, images[one]), labels[one])
            gradients = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
            for own, gradient in zip(total.values(), gradients, strict=True):
                own += gradient.double().square_()
        return total

    sum_in_order(sums, range(inputs.batches), squares)
    return sums
