"""The gain of each layer, from what stands behind it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from ntksap_export import models
from ntksap_export.errors import ConfigError
from ntksap_export.recovery import layer_gains

from ..support.nets import tiny_net

RELU = math.sqrt(2)


class Blocks(nn.Module):
    """A pre-activation sum, a gate, a linear bottleneck and a classifier; two of its layers share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.before_sum = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.gate = nn.Conv2d(4, 4, 1)
        self.bottleneck = nn.Conv2d(4, 2, 1)
        self.first = nn.Conv2d(2, 2, 1)
        self.again = nn.Conv2d(2, 2, 1)
        self.again.weight = self.first.weight
        self.silu = nn.Linear(2, 5)
        self.never = nn.Linear(5, 5)
        self.fc = nn.Linear(5, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = functional.relu_(self.norm(x + self.before_sum(functional.relu6(x))))
        x = self.bottleneck(x * torch.sigmoid(self.gate(x)))
        x = functional.max_pool2d(self.again(self.first(x)), 2).relu()
        x = functional.silu(self.silu(x.mean((2, 3))))
        logits: torch.Tensor = functional.log_softmax(self.fc(x), 1)
        return logits


def test_a_relu_counts_wherever_it_comes_before_the_next_layer() -> None:
    gains = layer_gains(Blocks(), (3, 8, 8))

    expected = {
        "stem.weight": RELU, "before_sum.weight": RELU, "gate.weight": 1.0, "bottleneck.weight": 1.0,
        "first.weight": RELU, "silu.weight": RELU, "never.weight": 1.0, "fc.weight": 1.0,
    }  # fmt: skip
    assert expected == gains


@pytest.mark.parametrize(("name", "hidden"), [("mlp7", RELU), ("mlp7_linear", 1.0), ("lenet5", RELU)])
def test_of_the_small_networks_the_last_layer_has_gain_1(name: str, hidden: float) -> None:
    *others, last = layer_gains(models.build(name, 10), (3, 32, 32)).values()

    assert [hidden] * len(others) == others
    assert 1.0 == last


def test_the_model_is_left_as_it_was() -> None:
    net = tiny_net(dropout=0.5)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.conv1.requires_grad_(False)

    layer_gains(net, (3, 9, 9))

    assert net.training
    assert not net.conv1.weight.requires_grad
    assert net.conv1.weight.grad is None
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


class Cut(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input.flatten(1)).detach()


def test_a_model_without_gradients_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match="what follows the layers of Cut cannot be read: its output is no tensor"):
        layer_gains(Cut(12, 3), (3, 2, 2))
