"""What several networks are put together in the same way from; layers and their names are each network's own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


class Pooled(nn.Module):
    """Maps of `features`, the mean of each channel, `classifier`. Input (N, 3, H, W), output (N, num_classes)."""

    features: nn.Module
    avgpool: nn.Module
    classifier: nn.Module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))
        return logits


def stage(
    block: Callable[[int, int, int], nn.Module], inputs: int, outputs: int, blocks: int, stride: int
) -> nn.Sequential:
    """Blocks of one width; the first changes width and size.

    Args:
        block: called with input channels, output channels and stride.
        inputs: channels that the first one reads.
        outputs: channels of each.
        blocks: how many, at least 1.
        stride: of the first one.
    """
    first = block(inputs, outputs, stride)
    return nn.Sequential(first, *(block(outputs, outputs, 1) for _ in range(blocks - 1)))
