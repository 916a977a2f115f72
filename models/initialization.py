"""The distribution that weights are drawn from before training."""

from __future__ import annotations

import math

import torch
from torch import nn


def weight_std(weight: torch.Tensor, squared_gain: float = 2.0) -> float:
    """Standard deviation of Kaiming normal, fan-in, gain sqrt(2) (He et al. 2015), for a Conv2d or Linear weight."""
    fan_in = weight[0].numel()
    return math.sqrt(squared_gain / fan_in)


@torch.no_grad()
def initialize_(model: nn.Module, squared_gain: float = 2.0) -> None:
    """Draw conv and linear weights anew, set BatchNorm to gamma 1 and beta 0. Biases stay as PyTorch drew them."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.normal_(0.0, weight_std(module.weight, squared_gain))
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
