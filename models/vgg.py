"""VGG-16 with BatchNorm for 32x32 images (Simonyan & Zisserman 2015): 13 convolutions and one classifier.

As in the NTK-SAP paper's CIFAR-100 runs: convolutions keep their biases, average pooling before a single 512-wide
classifier.
"""

from __future__ import annotations

import torch
from torch import nn

_VGG16 = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512)


class Vgg(nn.Module):
    """Input (N, 3, H, W) with H and W at least 16, output (N, num_classes)."""

    def __init__(self, plan: tuple[int | str, ...], num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for step in plan:
            if isinstance(step, str):
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [
                    nn.Conv2d(channels, step, 3, padding=1),
                    nn.BatchNorm2d(step),
                    nn.ReLU(inplace=True),
                ]
                channels = step
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(torch.flatten(self.avgpool(self.features(x)), 1))
        return logits


def vgg16_bn(num_classes: int) -> nn.Module:
    return Vgg(_VGG16, num_classes)
