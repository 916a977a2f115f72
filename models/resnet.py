"""ResNet-18 to -152 for 224x224 images (He et al. 2016; the stride sits in the 3x3 convolution, "v1.5").

The wide ones (Zagoruyko & Komodakis 2016) have a middle of twice the channels in each bottleneck.

Parameter names and shapes equal torchvision's, so that its checkpoints load. With `stem="cifar"` the 7x7 stride-2
convolution and the max-pool give way to one 3x3 convolution, for images of 32 to 64 pixels.
"""

from __future__ import annotations

import torch
from torch import nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; never wide."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, wide: int) -> None:
        super().__init__()
        assert wide == 1
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _downsample(inputs, width * self.expansion, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += shortcut
        result: torch.Tensor = self.relu(out)
        return result


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; the output is 4 / `wide` times as wide as the middle."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, wide: int) -> None:
        super().__init__()
        middle, outputs = width * wide, width * self.expansion
        self.conv1 = nn.Conv2d(inputs, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _downsample(inputs, outputs, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += shortcut
        result: torch.Tensor = self.relu(out)
        return result


def _downsample(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """Four stages. Input (N, 3, H, W), output (N, num_classes)."""

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        blocks: tuple[int, int, int, int],
        num_classes: int,
        stem: str,
        wide: int = 1,
    ) -> None:
        super().__init__()
        small = stem == "cifar"
        self.conv1 = nn.Conv2d(3, 64, 3 if small else 7, 1 if small else 2, padding=1 if small else 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = _stage(block, 64, 64, blocks[0], 1, wide)
        self.layer2 = _stage(block, 64 * block.expansion, 128, blocks[1], 2, wide)
        self.layer3 = _stage(block, 128 * block.expansion, 256, blocks[2], 2, wide)
        self.layer4 = _stage(block, 256 * block.expansion, 512, blocks[3], 2, wide)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * block.expansion, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: torch.Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


def _stage(
    block: type[BasicBlock | Bottleneck], inputs: int, width: int, blocks: int, stride: int, wide: int
) -> nn.Sequential:
    first = block(inputs, width, stride, wide)
    return nn.Sequential(first, *(block(width * block.expansion, width, 1, wide) for _ in range(blocks - 1)))


def resnet18(num_classes: int, stem: str) -> nn.Module:
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, stem)


def resnet34(num_classes: int, stem: str) -> nn.Module:
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, stem)


def resnet50(num_classes: int, stem: str) -> nn.Module:
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, stem)


def resnet101(num_classes: int, stem: str) -> nn.Module:
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes, stem)


def resnet152(num_classes: int, stem: str) -> nn.Module:
    return ResNet(Bottleneck, (3, 8, 36, 3), num_classes, stem)


def wide_resnet50_2(num_classes: int, stem: str) -> nn.Module:
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, stem, wide=2)


def wide_resnet101_2(num_classes: int, stem: str) -> nn.Module:
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes, stem, wide=2)
