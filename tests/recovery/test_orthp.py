"""OrthP beside the reference's steps, written slowly in double precision."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask
from ntksap_export.recovery import layer_gains, orthp_, recover_

from ..support.nets import random_mask, tiny_net

SHAPE = (3, 9, 9)


def gram_schmidt(rows: list[torch.Tensor]) -> list[torch.Tensor]:
    """What Q * sign(diag R) of a QR of these columns is: orthonormal, each with a positive product with its own row."""
    made: list[torch.Tensor] = []
    for row in rows:
        rest = row - sum((float(row @ other) * other for other in made), torch.zeros_like(row))
        made.append(rest / rest.norm())
    return made


def by_hand(weight: torch.Tensor, gain: float) -> torch.Tensor:
    flat = weight.double().flatten(1)
    out, rest = flat.shape
    made = torch.stack(gram_schmidt(list(flat if out < rest else flat.T)))
    return (gain * (made if out < rest else made.T)).reshape(weight.shape)


def test_every_layer_becomes_the_orthogonal_factor_of_what_it_was_times_its_gain() -> None:
    net = tiny_net(classes=10)  # the classifier, (10, 8), has more rows than columns
    before = {name: value.detach().clone() for name, value in net.state_dict().items()}

    done = recover_(net, Mask.dense(net), "orthp", SHAPE)

    gains = {"conv1.weight": math.sqrt(2), "conv2.weight": math.sqrt(2), "fc.weight": 1.0}
    for name, value in net.state_dict().items():
        if name in gains:
            torch.testing.assert_close(value.double(), by_hand(before[name], gains[name]), atol=1e-6, rtol=0)
        else:
            assert torch.equal(before[name], value), name
    assert list(gains.items()) == [(layer.name, layer.gain) for layer in done.layers]
    for layer in done.layers:
        flat = before[layer.name].double().flatten(1) / layer.gain
        product = min(flat @ flat.T, flat.T @ flat, key=len)
        off = (product - torch.eye(len(product))).norm() / math.sqrt(len(product))
        assert layer.before == pytest.approx(float(off))
        assert layer.before > 0.1
        assert layer.after < 1e-6
        assert (len(product), 0, 0) == (layer.rows, layer.lost, layer.steps)


def test_the_groups_of_a_convolution_are_matrices_of_their_own() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(6, 12, 3, groups=3), nn.ReLU(), nn.Conv2d(12, 12, 3, groups=12), nn.Flatten())
    before = [net[0].weight.detach().clone(), net[2].weight.detach().clone()]

    orthp_(net, layer_gains(net, (6, 5, 5)))

    for group, part in zip(before[0].chunk(3), net[0].weight.chunk(3), strict=True):
        torch.testing.assert_close(part.double(), by_hand(group, math.sqrt(2)), atol=1e-6, rtol=0)
    lengths = before[1].flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)  # depthwise: one row each
    torch.testing.assert_close(net[2].weight, before[1] / lengths)


def test_a_filter_of_zeros_gets_a_direction_of_its_own() -> None:
    layer = nn.Linear(6, 4)
    with torch.no_grad():
        layer.weight[1].zero_()

    orthp_(layer, {"weight": 1.0})

    torch.testing.assert_close(layer.weight @ layer.weight.T, torch.eye(4))


def test_a_mask_of_single_weights_is_refused_with_what_to_use_instead() -> None:
    net = tiny_net()
    mask = random_mask(net)

    with pytest.raises(ConfigError, match=r"prunes \d+ of 162 in 'conv1.weight'; use --recover isometry, or remove"):
        recover_(net, mask, "orthp", SHAPE)


def test_none_only_sets_pruned_weights_to_zero() -> None:
    net, mask = tiny_net(), random_mask(tiny_net())
    before = {name: value.detach().clone() for name, value in net.named_parameters()}

    done = recover_(net, mask, "none", SHAPE)

    assert () == done.layers
    for name, value in net.named_parameters():
        assert torch.equal(before[name] * mask[name] if name in mask else before[name], value)
