"""GraSP: keep the weights whose removal would shrink the gradient flow most (Wang, Zhang & Grosse, ICLR 2020).

    score = w * (H g)            g = dL/dw, H the Hessian; logits divided by 200; highest kept

Removing weights with a large -w * (H g) raises the gradient norm; GraSP removes those. Keeping the highest w * (H g) is
the same. (NTK-SAP's paper prints the sign the other way round.)

Reads images and labels: 10 a class. BatchNorm uses batch statistics, held constant on request. One shot.

Where it differs from the reference code: that draws the classifier anew before scoring, and splits each batch in two
to save memory; here the weights scored are those trained, and batches are as given. g is summed over all batches before
the product with each batch's H, as there; batches are read twice and do not change in between.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from ntksap_export.masks import Mask
from ntksap_export.pruning.distributed import sum_in_order
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.pruning.scorers.gradients import Tensors, call, loss_gradients, masked_weights, modes


@dataclass(frozen=True, slots=True)
class Grasp:
    """The scorer. `temperature` divides the logits."""

    temperature: float = 200.0
    default_rounds: int = 1
    revives: bool = False

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Tensors:  # noqa: ARG002
        """Score every weight of `mask`; see `Scorer.score`."""
        with modes(model, inputs.norms):
            weights = masked_weights(model, mask)
            flow = loss_gradients(model, weights, inputs, self.temperature)
            products = {name: torch.zeros_like(gradient) for name, gradient in flow.items()}
            device = next(model.parameters()).device

            def product(batch: int) -> Tensors:
                images, labels = inputs.labelled(batch, device)
                loss = functional.cross_entropy(call(model, weights, images) / self.temperature, labels)
                leaves = list(weights.values())
                gradients = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
                pairs = zip(gradients, flow.values(), strict=True)
                inner = sum(((g * f).sum() for g, f in pairs), start=loss.new_zeros(()))
                return dict(zip(weights, torch.autograd.grad(inner, leaves, materialize_grads=True), strict=True))

            sum_in_order(products, range(inputs.batches), product)
        return {name: weights[name].detach() * products[name] for name in weights}
