"""A module of a user, written to a folder that Python searches."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

NETS = """
import random
import torch
from torch import nn

print("a module that talks")


class Net(nn.Module):
    def __init__(self, num_classes=10, width=8):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.fc = nn.Linear(2 * width, num_classes)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.fc(x.mean(dim=(2, 3)))


def make(num_classes):
    print("a factory that talks")
    return Net(num_classes)


def by_any_keyword(**options):
    return Net(**options)


def of_ten():
    return Net()


def of_seven():
    return Net(7)


def raising(num_classes):
    raise ValueError("two\\nlines")


def leaving(num_classes):
    raise SystemExit(3)


def no_module(num_classes):
    return 3


def half(num_classes):
    return Net(num_classes).half()


def lazy(num_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))


def frozen(num_classes):
    net = Net(num_classes)
    net.conv1.weight.requires_grad_(False)
    return net


def nothing_to_prune(num_classes):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(3))


def other_each_time(num_classes):
    net = Net(num_classes)
    net.fc.bias.data.fill_(random.random())
    return net


def not_filled(num_classes):
    net = Net(num_classes)
    net.fc.bias.data.fill_(float("nan"))
    return net


_once = Net()


def same_object(num_classes):
    return _once


class Pair(Net):
    def forward(self, x):
        logits = super().forward(x)
        return (logits, logits) if self.training else logits


class Whole(Net):
    def forward(self, x):
        return super().forward(x).sum(0, keepdim=True)


class Broken(Net):
    def forward(self, x):
        raise KeyError("lost")


class Infinite(Net):
    def forward(self, x):
        return super().forward(x) / 0


class Deciding(Net):
    def forward(self, x):
        return super().forward(x if x.sum().item() > 1e9 else x + 0)


constant = 3
"""
_number = count()


def own_module(folder: Path, patch: pytest.MonkeyPatch, text: str = NETS) -> str:
    """Write `text` as a module of a name that was never imported, and let Python find it; the name."""
    name = f"own_nets_{next(_number)}"
    (folder / f"{name}.py").write_text(text)
    patch.syspath_prepend(folder)
    return name
