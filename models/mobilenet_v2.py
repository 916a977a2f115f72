"""MobileNetV2 for 224x224 images (Sandler et al. 2018): narrow layers joined by shortcuts, wide depthwise ones between.

Parameter names and shapes equal torchvision's. With `stem="cifar"` the first convolution and the first stage that would
halve the image leave its size, for images of 32 to 64 pixels: the last map is then an eighth of the image, not a 32nd.
"""

from __future__ import annotations

import torch
from torch import nn

from ntksap_export.models.parts import Pooled

# Expansion, output channels, blocks, stride of the first of them (table 2 of the paper).
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_LAST = 1280


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """1x1 to a wide layer, 3x3 depthwise, 1x1 back without activation; a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.shortcut = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            *([_conv(inputs, wide, 1)] if expansion != 1 else []),
            _conv(wide, wide, 3, stride, groups=wide),
            nn.Conv2d(wide, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.conv(x)
        return x + out if self.shortcut else out


class MobileNetV2(Pooled):
    """Input (N, 3, H, W), output (N, num_classes)."""

    def __init__(self, num_classes: int, stem: str) -> None:
        super().__init__()
        small = stem == "cifar"
        inputs = 32
        layers: list[nn.Module] = [_conv(3, inputs, 3, 1 if small else 2)]
        for stage, (expansion, outputs, blocks, first_stride) in enumerate(_STAGES):
            for block in range(blocks):
                stride = first_stride if block == 0 and not (small and stage == 1) else 1
                layers.append(InvertedResidual(inputs, outputs, stride, expansion))
                inputs = outputs
        self.features = nn.Sequential(*layers, _conv(inputs, _LAST, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(_LAST, num_classes))


def mobilenet_v2(num_classes: int, stem: str) -> nn.Module:
    return MobileNetV2(num_classes, stem)
