"""MLP-7 and LeNet-5, with ReLU or linear, for studies of dynamical isometry (Wang et al., arXiv 2105.05916).

Set-ups of that paper: 32x32 gray images; seven linear layers of width 100 (as Lee et al., ICLR 2020), or the five
layers of LeCun et al. 1998 with max-pooling and without norms. Linear means that no activation stands between the
layers; the max-pooling of LeNet-5 stays. Images in color become gray by the mean of their channels, so that the first
layer is the paper's; singular values of the Jacobian by a color image are those by the gray one divided by sqrt(3).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn


class Mlp(nn.Module):
    """Seven linear layers. Input (N, C, 32, 32), output (N, num_classes)."""

    def __init__(self, num_classes: int, linear: bool) -> None:
        super().__init__()
        widths = (32 * 32, *[100] * 6, num_classes)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), _activation(linear)]
        self.net = nn.Sequential(*layers[:-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(torch.flatten(x.mean(1), 1))
        return logits


class LeNet5(nn.Module):
    """Three 5x5 convolutions and two linear layers. Input (N, C, 32, 32), output (N, num_classes)."""

    def __init__(self, num_classes: int, linear: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.conv3 = nn.Conv2d(16, 120, 5)
        self.fc1 = nn.Linear(120, 84)
        self.fc2 = nn.Linear(84, num_classes)
        self.activation = _activation(linear)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.activation(self.conv1(x.mean(1, keepdim=True))))
        x = self.pool(self.activation(self.conv2(x)))
        x = torch.flatten(self.activation(self.conv3(x)), 1)
        logits: torch.Tensor = self.fc2(self.activation(self.fc1(x)))
        return logits


def _activation(linear: bool) -> nn.Module:
    return nn.Identity() if linear else nn.ReLU()


def mlp7(num_classes: int, linear: bool) -> nn.Module:
    return Mlp(num_classes, linear)


def lenet5(num_classes: int, linear: bool) -> nn.Module:
    return LeNet5(num_classes, linear)
