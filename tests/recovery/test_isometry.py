"""Approximate isometry: the loss of the paper falls, on the support, to where it can."""

from __future__ import annotations

import math

import torch
from torch import nn

from ntksap_export.masks import Mask
from ntksap_export.recovery import approximate_isometry_, layer_gains, recover_

from ..support.nets import random_mask, tiny_net

SHAPE = (3, 9, 9)


def loss(weight: torch.Tensor, gain: float) -> float:
    """|| W W^T - I ||_F^2, or of W^T W where there are more rows than columns, entry by entry."""
    flat = (weight.detach().double() / gain).flatten(1)
    rows = (flat if flat.shape[0] <= flat.shape[1] else flat.T).tolist()
    total = 0.0
    for i, first in enumerate(rows):
        for j, second in enumerate(rows):
            total += (sum(a * b for a, b in zip(first, second, strict=True)) - (i == j)) ** 2
    return total


def test_the_kept_weights_become_an_isometry_and_the_others_stay_zero() -> None:
    net = tiny_net(classes=10)
    mask = random_mask(net, 0.6)
    gains = layer_gains(net, SHAPE)
    others = {name: value.clone() for name, value in net.state_dict().items() if name not in mask}

    done = recover_(net, mask, "isometry", SHAPE)

    for layer in done.layers:
        weight = net.get_parameter(layer.name)
        assert not weight[~mask[layer.name]].any()
        assert loss(weight, gains[layer.name]) < 1e-5 * layer.rows
        assert layer.after < 0.01 < layer.before
        assert 0 < layer.steps < 10_000
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in others.items())


def test_the_first_step_is_adams_on_the_gradient_of_the_loss() -> None:
    torch.manual_seed(0)
    layer, kept = nn.Linear(5, 3), torch.rand(3, 5) < 0.7
    slow = (layer.weight.detach().double() * kept).requires_grad_()
    product = slow @ slow.T
    (gradient,) = torch.autograd.grad((product - torch.eye(3)).square().sum(), [slow])
    expected = slow.detach() - kept * 0.01 * gradient / (gradient.abs() + 1e-8)

    approximate_isometry_(layer, Mask({"weight": kept}), {"weight": 1.0}, steps=1, rate=0.01)

    torch.testing.assert_close(layer.weight.double(), expected, atol=1e-6, rtol=0)


def test_what_cannot_be_an_isometry_comes_as_near_as_it_can() -> None:
    # Two rows share their one input: (a, b) at least || [aa-1, ab; ab, bb-1] ||^2 = 1, at a^2 + b^2 = 1.
    layer = nn.Linear(4, 3)
    kept = torch.zeros(3, 4, dtype=torch.bool)
    kept[0, 0] = kept[1, 0] = kept[2, 2] = True

    taken = approximate_isometry_(layer, Mask({"weight": kept}), {"weight": math.sqrt(2)})

    assert abs(loss(layer.weight, math.sqrt(2)) - 1.0) < 1e-3
    assert taken["weight"] < 10_000


def test_rows_and_columns_without_weights_are_flagged() -> None:
    net = tiny_net()
    mask = dict(random_mask(net, 0.9))
    mask["conv2.weight"] = mask["conv2.weight"].index_fill(0, torch.tensor([1, 5]), False)

    mask["fc.weight"] = mask["fc.weight"].index_fill(1, torch.tensor([0, 2, 3, 4, 5, 6]), False)  # 2 of 3 are left

    done = recover_(net, Mask(mask), "isometry", SHAPE, steps=100)

    assert [("conv2.weight", 2), ("fc.weight", 1)] == [(layer.name, layer.lost) for layer in done.starved]
    assert not net.conv2.weight[[1, 5]].any()
    for layer in done.layers:
        assert layer.lost == sum(torch.linalg.svdvals(net.get_parameter(layer.name).detach().flatten(1)) < 1e-6)


def test_kept_weights_that_are_all_zero_are_drawn_from_the_seed() -> None:
    def made(seed: int) -> torch.Tensor:
        layer = nn.Linear(6, 3)
        with torch.no_grad():
            layer.weight.copy_(torch.eye(3, 6)).mul_(torch.tensor([[0.0], [1.0], [1.0]]))
        kept = torch.ones(3, 6, dtype=torch.bool)
        kept[0, 2] = False
        approximate_isometry_(layer, Mask({"weight": kept}), {"weight": 1.0}, seed=seed)
        assert loss(layer.weight, 1.0) < 1e-5
        assert not layer.weight[0, 2]
        return layer.weight.detach()

    assert torch.equal(made(1), made(1))
    assert not torch.equal(made(1), made(2))


def test_the_bar_ends_full_however_early_a_layer_ends() -> None:
    moved: list[int] = []

    class Bar:
        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None: ...

        def say(self, message: str) -> None: ...

        def task(self, name: str, total: int, done: int = 0) -> Bar:
            moved.append(-total)
            return self

        def advance(self, steps: int = 1, note: object = "") -> None:
            moved.append(steps)

    net = tiny_net()
    recover_(net, random_mask(net), "isometry", SHAPE, steps=170, progress=Bar())  # type: ignore[arg-type]

    assert -3 * 170 == moved[0]
    assert 0 == sum(moved)
