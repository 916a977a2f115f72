"""VGG-11 to -19 with BatchNorm for 32x32 images (Simonyan & Zisserman 2015): 8 to 16 convolutions and one classifier.

As in the NTK-SAP paper's CIFAR-100 runs: convolutions keep their biases, average pooling before a single 512-wide
classifier. Names below `features` equal torchvision's. The networks for 224x224 images, with three wide linear layers,
are `torchvision:vgg16_bn` and its like.
"""

from __future__ import annotations

import torch
from torch import nn

# Convolutions in each of the five stages, by depth; the stages have 64, 128, 256, 512 and 512 channels.
_STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_CHANNELS = (64, 128, 256, 512, 512)


class Vgg(nn.Module):
    """Input (N, 3, H, W) with H and W at least 16, output (N, num_classes)."""

    def __init__(self, stages: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs, convolutions in zip(_CHANNELS, stages, strict=True):
            if layers:
                layers.append(nn.MaxPool2d(2))
            for _ in range(convolutions):
                layers += [
                    nn.Conv2d(inputs, outputs, 3, padding=1),
                    nn.BatchNorm2d(outputs),
                    nn.ReLU(inplace=True),
                ]
                inputs = outputs
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(torch.flatten(self.avgpool(self.features(x)), 1))
        return logits


def vgg_bn(num_classes: int, depth: int) -> nn.Module:
    return Vgg(_STAGES[depth], num_classes)
