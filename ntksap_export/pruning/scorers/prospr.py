"""ProsPr: keep the weights that matter to the loss after a few steps of training (Alizadeh et al., ICLR 2022).

    score = | dL(w_M) / dc |     at c = 1, where w_0 = c * w and w_{t+1} = w_t - lr * dL/dw_t

Reads images and labels: M + 1 batches, one per inner step and one for the outer loss (one batch serves all where only
one is given). The derivative goes through all M steps (second order). BatchNorm uses batch statistics, held constant
on request. One shot.

Where it differs from the reference code: biases and norms are not trained in the inner steps; inner momentum is 0, that
code's default.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from ntksap_export.masks import Mask
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.pruning.scorers.gradients import Tensors, call, initial_weights, modes


@dataclass(frozen=True, slots=True)
class ProsPr:
    """The scorer: `steps` inner steps of rate `lr`."""

    steps: int = 3
    lr: float = 0.1
    default_rounds: int = 1
    revives: bool = False

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Tensors:  # noqa: ARG002
        """Score every weight of `mask`; see `Scorer.score`."""
        device = next(model.parameters()).device
        initial = initial_weights(model, mask)
        with modes(model, inputs.norms):
            factors = {name: kept.to(initial[name]).requires_grad_() for name, kept in mask.items()}
            weights = {name: factors[name] * initial[name] for name in mask}
            for step in range(self.steps):
                images, labels = inputs.labelled(step % inputs.batches, device)
                loss = functional.cross_entropy(call(model, weights, images), labels)
                gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True, materialize_grads=True)
                # A pruned weight does not train.
                weights = {
                    name: weight - self.lr * gradient * mask[name]
                    for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
                }
            images, labels = inputs.labelled(self.steps % inputs.batches, device)
            outer = functional.cross_entropy(call(model, weights, images), labels)
            meta = torch.autograd.grad(outer, list(factors.values()), materialize_grads=True)
        return {name: gradient.abs() * mask[name] for name, gradient in zip(mask, meta, strict=True)}
