"""Wide residual networks for 32x32 images (Zagoruyko & Komodakis 2016): `width` times 16, 32 and 64 channels.

Norm and ReLU stand before each convolution. Where the channels change, the shortcut is a bare 1x1 convolution of the
block's normalized input. No dropout.
"""

from __future__ import annotations

import torch
from torch import nn

from ntksap_export.models.parts import stage


class Block(nn.Module):
    """Norm, ReLU, 3x3 convolution, twice, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ready = self.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(ready)
        out: torch.Tensor = self.conv2(self.relu(self.bn2(self.conv1(ready))))
        return out + shortcut


class WideResNet(nn.Module):
    """`6n + 4` convolutions, with shortcuts. Input (N, 3, H, W), H and W divisible by 4; output (N, num_classes)."""

    def __init__(self, depth: int, width: int, num_classes: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.layer1 = stage(Block, 16, 16 * width, blocks, stride=1)
        self.layer2 = stage(Block, 16 * width, 32 * width, blocks, stride=2)
        self.layer3 = stage(Block, 32 * width, 64 * width, blocks, stride=2)
        self.bn = nn.BatchNorm2d(64 * width)
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64 * width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        logits: torch.Tensor = self.fc(torch.flatten(self.avgpool(self.relu(self.bn(x))), 1))
        return logits


def wide_resnet(num_classes: int, depth: int, width: int) -> nn.Module:
    return WideResNet(depth, width, num_classes)
