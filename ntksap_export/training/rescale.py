"""Give the kept weights of each output neuron the scale that its pruned fan-in wants, before training.

    w *= sqrt(fan_in / kept fan_in)         per output of a convolution or linear layer

Evci, Ioannou, Keskin & Dauphin, "Gradient Flow in Sparse Neural Networks and How Lottery Tickets Win", AAAI 2022: a
draw for the dense fan-in makes the signal of a sparse network fade; the fan-in differs from neuron to neuron. A norm
behind the layer undoes the scale in the forward pass, but not in the size of a step relative to the weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from ntksap_export.masks import Mask, fan_in


@torch.no_grad()
def rescale_init_(model: nn.Module, mask: Mask, drawn: Mapping[str, int] | None = None) -> None:
    """Rescale the weights of `model` under `mask`, in place; biases, norms and outputs with nothing kept stay.

    Args:
        model: at its initialization.
        mask: names and shapes of the model.
        drawn: name -> the fan-in that the weight was drawn for, where it is not the weight's own (channels were
            removed since).

    Raises:
        CheckpointError: the mask does not fit the model.
    """
    mask.check_fits(model)
    parameters = dict(model.named_parameters())
    for name, kept in fan_in(mask).items():
        weight = parameters[name]
        wanted = weight[0].numel() if drawn is None else drawn[name]
        factors = torch.where(kept > 0, wanted / kept.clamp(min=1), 1.0).double().sqrt()
        shape = (-1, *[1] * (weight.ndim - 1))  # (out, 1, 1, 1) or (out, 1)
        weight.mul_(factors.reshape(shape).to(weight))
