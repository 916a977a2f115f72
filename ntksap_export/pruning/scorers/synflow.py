"""SynFlow: keep the weights that carry most synaptic flow (Tanaka, Kunin, Yamins & Ganguli, NeurIPS 2020).

    score = |w| * dR/d|w|        R = sum of the logits for an image of ones, with every parameter replaced by its size

Needs no data. BatchNorm in eval form, its parameters and statistics by size as well. 100 rounds of an exponential
schedule. Computed in float64: R overflows float32 in deep networks.

Where it differs from the reference code: that uses float64 for ImageNet-size networks only; ties at zero (weights on no
living path) are not all pruned but chosen to an exact count.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call

from ntksap_export.masks import Mask
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.pruning.scorers.gradients import Tensors, masked_weights, modes


@dataclass(frozen=True, slots=True)
class SynFlow:
    """The scorer."""

    default_rounds: int = 100
    revives: bool = False

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Tensors:  # noqa: ARG002
        """Score every weight of `mask`; see `Scorer.score`."""
        sizes = {
            name: value.detach().double().abs()
            for name, value in (*model.named_parameters(), *model.named_buffers())
            if value.is_floating_point()
        }
        device = next(model.parameters()).device
        with modes(model):
            weights = {
                name: weight.detach().double().abs().requires_grad_()
                for name, weight in masked_weights(model, mask).items()
            }
            ones = torch.ones(1, *inputs.shape, dtype=torch.float64, device=device)
            flow = functional_call(model, {**sizes, **weights}, (ones,)).sum()
            gradients = torch.autograd.grad(flow, list(weights.values()), materialize_grads=True)
        return {
            name: weight.detach() * gradient
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
        }
