"""MobileNetV3-Large for 224x224 images (Howard et al. 2019): inverted residuals, squeeze-and-excitation, hard swish.

Parameter names, shapes and the settings of BatchNorm equal torchvision's. With `stem="cifar"` the first convolution and
the first block that would halve the image leave its size, for images of 32 to 64 pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ntksap_export.models.parts import Pooled

# Kernel, wide channels, output channels, squeeze-and-excitation, hard swish, stride (table 1 of the paper).
_BLOCKS = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)
_FIRST, _LAST, _HIDDEN = 16, 960, 1280


def _conv(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    activation: Callable[[], nn.Module] | None = None,
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=0.001, momentum=0.01),
        *([] if activation is None else [activation()]),
    )


def _hard_swish() -> nn.Module:
    return nn.Hardswish(inplace=True)


def _relu() -> nn.Module:
    return nn.ReLU(inplace=True)


class SqueezeExcitation(nn.Module):
    """Scale each channel by a number in [0, 1] that a small network finds from all channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = _multiple_of_8(channels // 4)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation = nn.ReLU()
        self.scale_activation = nn.Hardsigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale: torch.Tensor = self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(x)))))
        return scale * x


class InvertedResidual(nn.Module):
    """1x1 to a wide layer, depthwise, squeeze-and-excitation, 1x1 back; a shortcut where the shape stays."""

    def __init__(
        self, inputs: int, kernel: int, wide: int, outputs: int, excite: bool, swish: bool, stride: int
    ) -> None:
        super().__init__()
        activation = _hard_swish if swish else _relu
        self.shortcut = stride == 1 and inputs == outputs
        self.block = nn.Sequential(
            *([_conv(inputs, wide, 1, activation=activation)] if wide != inputs else []),
            _conv(wide, wide, kernel, stride, groups=wide, activation=activation),
            *([SqueezeExcitation(wide)] if excite else []),
            _conv(wide, outputs, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.block(x)
        return x + out if self.shortcut else out


class MobileNetV3(Pooled):
    """Input (N, 3, H, W), output (N, num_classes)."""

    def __init__(self, num_classes: int, stem: str) -> None:
        super().__init__()
        small = stem == "cifar"
        inputs = _FIRST
        layers: list[nn.Module] = [_conv(3, inputs, 3, 1 if small else 2, activation=_hard_swish)]
        for place, (kernel, wide, outputs, excite, swish, stride) in enumerate(_BLOCKS):
            kept = 1 if small and place == 1 else stride
            layers.append(InvertedResidual(inputs, kernel, wide, outputs, excite, swish, kept))
            inputs = outputs
        self.features = nn.Sequential(*layers, _conv(inputs, _LAST, 1, activation=_hard_swish))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(_LAST, _HIDDEN), _hard_swish(), nn.Dropout(0.2), nn.Linear(_HIDDEN, num_classes)
        )


def _multiple_of_8(channels: int) -> int:
    """The nearest multiple of 8, at least 8 and not below nine tenths of `channels`."""
    nearest = max(8, (channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def mobilenet_v3_large(num_classes: int, stem: str) -> nn.Module:
    return MobileNetV3(num_classes, stem)
