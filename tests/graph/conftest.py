"""Graphs that take seconds to make, made once."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from ntksap_export import models
from ntksap_export.graph import Graph, export, optimize
from ntksap_export.masks import Mask


def season_(model: nn.Module, seed: int = 0) -> None:
    """Give every norm statistics, scales (some negative) and shifts as training would leave them."""
    draw = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            size = module.running_mean.shape
            module.running_mean.copy_(torch.randn(size, generator=draw) * 0.5)
            module.running_var.copy_(torch.rand(size, generator=draw) + 0.5)
            sign = (torch.rand(size, generator=draw) > 0.3) * 2.0 - 1.0
            with torch.no_grad():
                module.weight.copy_((torch.rand(size, generator=draw) * 0.5 + 0.5) * sign)
                module.bias.copy_(torch.randn(size, generator=draw) * 0.3)


@dataclass(frozen=True)
class Case:
    """A network that was never masked itself, the mask, and the graph that `export` made of the two."""

    model: nn.Module
    mask: Mask
    sample: torch.Tensor
    graph: Graph


@pytest.fixture(scope="session")
def case() -> Case:
    model = models.build("resnet20", num_classes=7, seed=3)
    season_(model)
    draw = torch.Generator().manual_seed(1)
    mask = Mask({name: torch.rand(kept.shape, generator=draw) < 0.3 for name, kept in Mask.dense(model).items()})
    sample = torch.randn(1, 3, 32, 32, generator=draw)
    return Case(model, mask, sample, export(model, sample, mask=mask))


@pytest.fixture(scope="session")
def optimized(case: Case) -> Graph:
    return optimize(case.graph)[0]
