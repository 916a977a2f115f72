"""Orthogonal draws: their defining equations, their seed, and the scorer that draws from them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ntksap_export.masks import Mask
from ntksap_export.pruning import NtkSap, ScoringInputs
from ntksap_export.recovery import INITS, initialize_, orthogonal, sampler
from ntksap_export.recovery.orthogonal import Draw

from ..support.nets import tiny_net

SHAPE = (3, 9, 9)


def gram(weight: torch.Tensor) -> torch.Tensor:
    flat = weight.detach().double().flatten(1)
    return flat @ flat.T if flat.shape[0] <= flat.shape[1] else flat.T @ flat


def test_orthogonal_draws_have_orthonormal_rows_times_the_gain() -> None:
    net = tiny_net(classes=10)
    initialize_(net, "orthogonal", SHAPE, seed=3)

    for weight, squared in ((net.conv1.weight, 2.0), (net.conv2.weight, 2.0), (net.fc.weight, 1.0)):
        product = gram(weight)
        torch.testing.assert_close(product, squared * torch.eye(len(product), dtype=torch.float64), atol=1e-5, rtol=0)


def test_of_delta_orthogonal_draws_only_the_centre_is_there() -> None:
    net = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, (2, 5)), nn.Conv2d(4, 4, 3, groups=4))
    initialize_(net, "delta-orthogonal", (4, 9, 9), seed=3)

    for layer, place, squared in ((net[0], (1, 1), 2.0), (net[2], (1, 2), 1.0), (net[3], (1, 1), 1.0)):
        weight = layer.weight.detach().clone()
        centre = weight[:, :, place[0], place[1]].clone()
        weight[:, :, place[0], place[1]] = 0
        assert not weight.any()
        if layer.groups == 4:
            torch.testing.assert_close(centre.abs(), torch.ones(4, 1))
        else:
            product = gram(centre)
            torch.testing.assert_close(product, squared * torch.eye(4, dtype=torch.float64), atol=1e-5, rtol=0)


def test_a_delta_orthogonal_convolution_keeps_lengths() -> None:
    layer = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    initialize_(layer, "delta-orthogonal", (3, 6, 6), seed=0)
    images = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))

    torch.testing.assert_close(images.flatten(1).norm(dim=1), layer(images).flatten(1).norm(dim=1))


@pytest.mark.parametrize("how", INITS)
def test_weights_follow_from_the_seed_and_nothing_else_changes(how: str) -> None:
    def made(seed: int) -> dict[str, torch.Tensor]:
        net = tiny_net(seed=9)
        state = torch.get_rng_state()
        initialize_(net, how, SHAPE, seed)
        assert torch.equal(state, torch.get_rng_state())
        return net.state_dict()

    first, again, other, plain = made(1), made(1), made(2), tiny_net(seed=9).state_dict()

    for name, value in first.items():
        assert torch.equal(value, again[name])
        drawn = name in Mask.dense(tiny_net())
        assert drawn is not torch.equal(value, other[name])
        assert drawn is not torch.equal(value, plain[name])


def test_the_draws_are_uniform_over_the_rotations() -> None:
    # Without the signs of diag R, LAPACK's Q of a square matrix leans to one side: E[trace] would not be 0.
    normal = torch.randn(4000, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    q = orthogonal(normal)

    assert q.mean(0).abs().max() < 0.04  # 5 standard errors: an entry has variance 1/4
    assert (q.square().mean(0) - 0.25).abs().max() < 0.02


def test_ntksap_draws_from_the_initialization_of_the_run() -> None:
    net, inputs = tiny_net(), ScoringInputs(SHAPE, batch_size=4, seed=1)
    mask = Mask.dense(net)
    drawn: list[str] = []

    def kaiming(model: nn.Module, shape: tuple[int, ...]) -> Draw:
        def draw(name: str, generator: torch.Generator) -> torch.Tensor:
            drawn.append(name)
            weight = model.get_parameter(name)
            return torch.empty(weight.shape).normal_(0.0, math.sqrt(2 / weight[0].numel()), generator=generator)

        assert SHAPE == shape
        return draw

    own = NtkSap().score(net, mask, inputs, 0)
    same = NtkSap(sampler=kaiming).score(net, mask, inputs, 0)
    other = NtkSap(sampler=sampler("orthogonal")).score(net, mask, inputs, 0)

    assert list(mask) == drawn
    assert all(torch.equal(own[name], same[name]) for name in mask)
    assert not any(torch.equal(own[name], other[name]) for name in mask)
    assert sampler("default") is None
