"""A settled copy: running statistics of given images, the model untouched."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ntksap_export.analysis.settled import settled
from ntksap_export.errors import ConfigError

from ..support.nets import tiny_net

IMAGES = torch.randn(6, 3, 9, 9, generator=torch.Generator().manual_seed(1)) * 3 + 1


def test_the_statistics_are_those_of_the_images() -> None:
    net = tiny_net()

    found = settled(net, IMAGES)

    x = net.conv1(IMAGES)
    y = torch.relu((x - x.mean((0, 2, 3), True)) / (x.var((0, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt())
    y = net.conv2(y)
    for norm, seen in ((found.bn1, x), (found.bn2, y)):
        torch.testing.assert_close(norm.running_mean, seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.running_var, seen.var((0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_the_model_is_left_and_the_copy_is_in_eval_mode() -> None:
    net = tiny_net(dropout=0.5).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}

    first, second = settled(net, IMAGES), settled(net, IMAGES)

    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not any(module.training for module in first.modules())
    assert 0.1 == first.bn1.momentum
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def test_a_network_without_norms_is_only_copied() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).train()

    found = settled(net, torch.zeros(0, 1, 2, 2))

    assert not found.training
    assert torch.equal(net[1].weight, found[1].weight)
    assert net[1].weight is not found[1].weight


def test_one_value_per_channel_is_too_few() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.BatchNorm1d(2))

    with pytest.raises(ConfigError, match=r"shape \(1, 1, 2, 2\): .*; give more or larger images"):
        settled(net, torch.zeros(1, 1, 2, 2))
