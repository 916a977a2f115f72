"""ResNets for 32x32 images (He et al. 2016, section 4.2): three stages of 16, 32 and 64 channels, or a multiple of it.

Where the shape changes, the shortcut is a 1x1 convolution and BatchNorm (not padding), as in the networks that the
NTK-SAP paper and the lottery-ticket papers train.
"""

from __future__ import annotations

import torch
from torch import nn

from ntksap_export.models.parts import stage


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        result: torch.Tensor = self.relu(out)
        return result


class CifarResNet(nn.Module):
    """`6n + 2` layers. Input (N, 3, H, W) with H and W divisible by 4, output (N, num_classes)."""

    def __init__(self, depth: int, width: int, num_classes: int) -> None:
        super().__init__()
        blocks, first, second, third = (depth - 2) // 6, 16 * width, 32 * width, 64 * width
        self.conv1 = nn.Conv2d(3, first, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = stage(Block, first, first, blocks, stride=1)
        self.layer2 = stage(Block, first, second, blocks, stride=2)
        self.layer3 = stage(Block, second, third, blocks, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(third, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: torch.Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


def cifar_resnet(num_classes: int, depth: int, width: int) -> nn.Module:
    """`width` multiplies the channels of every stage."""
    return CifarResNet(depth, width, num_classes)
