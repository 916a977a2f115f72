"""Optimal brain damage: keep what would raise the loss most to second order (LeCun, Denker & Solla, NIPS 1989).

    score = 1/2 H_kk w_k^2        H the Hessian of the mean cross-entropy of the scoring images by the kept weights

At a minimum the gradient is zero, and what a weight's removal does is its curvature's. The first-order term g_k w_k is
left out as in the paper: `taylor` has it. Reads images and labels. For trained networks: BatchNorm uses its running
statistics.

Each H_kk by a backward pass of its own would take one per weight. So the diagonal is estimated (Hutchinson 1990; Bekas
et al. 2007):

    H_kk = E[ v_k (H v)_k ]        v of +1 and -1 by chance (Rademacher), averaged over `probes` draws for each batch

An estimate has no bias; its deviation is sqrt(sum over j != k of H_kj^2 / probes), with fresh draws for each batch:
what a weight shares with others blurs it. Where it differs from the paper: that propagates second derivatives and
leaves out the terms that could make them negative (Levenberg-Marquardt); here they stay, and a negative score says
that the loss should fall.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask
from ntksap_export.pruning.distributed import sum_in_order
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.pruning.scorers.gradients import Tensors, call, masked_weights, modes


@dataclass(frozen=True, slots=True)
class Obd:
    """The scorer. `probes` draws for each batch; four times as many halve the deviation.

    Raises:
        ConfigError: probes below 1.
    """

    probes: int = 10
    default_rounds: int = 1
    revives: bool = False

    def __post_init__(self) -> None:
        if self.probes < 1:
            raise ConfigError(f"probes must be at least 1; got {self.probes}")

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Tensors:
        """Score every weight of `mask`, in float64; see `Scorer.score`."""
        with modes(model):
            weights = masked_weights(model, mask)
            curvature = self._diagonal(model, weights, inputs, round_index)
        return {
            name: weight.detach().double().square() * curvature[name] / (2 * self.probes * inputs.batches)
            for name, weight in weights.items()
        }

    def _diagonal(self, model: nn.Module, weights: Tensors, inputs: ScoringInputs, round_index: int) -> Tensors:
        """The sum over batches and probes of v (H v), in float64."""
        sums = {name: torch.zeros_like(weight, dtype=torch.float64) for name, weight in weights.items()}
        device = next(model.parameters()).device
        leaves = list(weights.values())

        def products(batch: int) -> Tensors:
            images, labels = inputs.labelled(batch, device)
            loss = functional.cross_entropy(call(model, weights, images), labels)
            gradients = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
            total = {name: torch.zeros_like(own) for name, own in sums.items()}
            for probe in range(self.probes):
                signs = _signs(leaves, inputs.generator(device, round_index, batch, probe))
                pairs = zip(gradients, signs, strict=True)
                inner = sum(((g * v).sum() for g, v in pairs), start=loss.new_zeros(()))
                curved = torch.autograd.grad(inner, leaves, retain_graph=True, materialize_grads=True)
                for own, product, v in zip(total.values(), curved, signs, strict=True):
                    own += product.double() * v
            return total

        sum_in_order(sums, range(inputs.batches), products)
        return sums


def _signs(leaves: list[torch.Tensor], generator: torch.Generator) -> list[torch.Tensor]:
    """+1 or -1 for every weight."""
    return [
        torch.randint(0, 2, leaf.shape, generator=generator, device=leaf.device, dtype=leaf.dtype) * 2 - 1
        for leaf in leaves
    ]
