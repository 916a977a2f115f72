"""What the tests of searches share: a few images, a small job, a stop after so many steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ntksap_export.data import Augmentation, DataSpec, Loader, Loaders, MemorySource
from ntksap_export.pruning import Budget, ChannelPlan
from ntksap_export.pruning.channel_groups import channel_groups
from ntksap_export.pruning.channel_units import plan_of
from ntksap_export.search import SearchJob
from ntksap_export.training import TrainConfig

from ..support.nets import tiny_net

STEPS = 3  # of an epoch
SHAPE = (3, 8, 8)
SIXTY = Budget(0.6)


def images() -> Loaders:
    """48 training images in three batches, and 16 to judge by; noise of ten classes."""
    pixels = torch.randint(256, (64, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels = torch.arange(64) % 10
    triple = (0.5, 0.5, 0.5)
    spec = DataSpec("noise", tuple("0123456789"), 8, triple, triple, Augmentation("none"), 48, 16)
    train, val = MemorySource(pixels[:48], labels[:48]), MemorySource(pixels[48:], labels[48:])
    return Loaders(spec, Loader(train, spec, 16, train=True, seed=0), Loader(val, spec, 16, train=False, seed=0))


def job(states: Path, model: nn.Module | None = None, budget: Budget | None = SIXTY, **changes: Any) -> SearchJob:
    """Two epochs on a `TinyNet` in float32, to 60 % sparsity."""
    train = TrainConfig(2, lr=0.1, precision="fp32", warmup_epochs=0.0)
    model = tiny_net(seed=1, classes=10) if model is None else model
    return replace(SearchJob(model, SHAPE, images, train, states, budget, round_to=1), **changes)


class After:
    """Says stop after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0


def without_first(model: nn.Module) -> ChannelPlan:
    """The plan that removes the first unit of every group that can lose one."""
    groups = channel_groups(model, SHAPE)
    return plan_of(groups, [range(group.reason is None, group.units) for group in groups])


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether two state dicts hold the same names and bits."""
    return first.keys() == second.keys() and all(torch.equal(first[name].cpu(), second[name].cpu()) for name in first)
