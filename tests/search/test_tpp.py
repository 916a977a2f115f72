"""TPP: the gradient of one step is that of the written-out loss, and layers are set to zero one by one."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from ntksap_export.search.growing import Growth, removed_rows
from ntksap_export.search.tpp import grams_of, on_gradients, zeroing

from ..pruning.channel_nets import Residual
from .cases import SHAPE, without_first

LAMBDA, REG = 1000.0, 0.03


def net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return Residual().double().train()


def test_one_steps_gradient_is_that_of_the_written_out_loss() -> None:
    model, plain = net(), net()
    images, labels = torch.randn(4, *SHAPE, dtype=torch.float64), torch.tensor([0, 1, 0, 1])
    plan = without_first(model)
    gone = {layer: sides.out for layer, sides in plan.layers.items() if sides.out is not None}
    loss = functional.cross_entropy(plain(images), labels)
    for layer, kept in gone.items():
        module = plain.get_submodule(layer)
        rows = [row for row in range(kept.of) if row not in kept.channels]
        for parameter in module.parameters():  # weight and bias, or gamma and beta
            loss = loss + 0.5 * REG * (parameter[rows] ** 2).sum()
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight = module.weight.flatten(1)
            gram = weight @ weight.T
            target = gram.detach().clone()
            target[rows, :] = 0
            target[:, rows] = 0
            loss = loss + LAMBDA * REG * functional.mse_loss(gram, target)
    loss.backward()  # type: ignore[no-untyped-call]
    functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
    going = removed_rows(model, plan, beside=True)

    on_gradients(going, grams_of(model, going), Growth(0.01, 1, 1.0, 1000), LAMBDA)(3)

    for (name, expected), actual in zip(plain.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(actual.grad, expected.grad, rtol=1e-10, atol=1e-12, msg=name)
    assert {"stem", "stem_bn", "a1", "a_bn", "a2", "b1"} <= set(gone)


def test_grouped_convolutions_are_not_decorrelated() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 2, 1))
    plan = without_first(model)
    going = removed_rows(model, plan, beside=True)

    grams = grams_of(model, going)

    assert ["0.weight", "0.bias", "1.weight", "1.bias"] == [part.name for part in going]
    assert ["0.weight"] == [part.name for part in grams]


@pytest.mark.parametrize(("steps", "apart"), [(1000, 100), (700, 66), (500, 0)])
def test_layers_are_set_to_zero_one_after_the_other_once_the_limit_is_reached(steps: int, apart: int) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    plan = without_first(model)
    going = removed_rows(model, plan, beside=True)

    begins = zeroing(going, Growth(0.01, 5, 1.0, steps))

    assert {"0": min(500 + apart, steps - 1), "1": min(500 + 2 * apart, steps - 1)} == begins


def test_what_is_set_to_zero_is_zero_and_gets_no_gradient() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    plan = without_first(model)
    model(torch.randn(2, *SHAPE)).sum().backward()
    going = removed_rows(model, plan, beside=True)
    kept = plan.layers["0"].out
    assert kept is not None
    stays = list(kept.channels)
    before = model[0].weight.detach().clone()

    on_gradients(going, [], Growth(1.0, 1, 1.0, 2), 0.0)(1)

    rows = [row for row in range(4) if row not in stays]
    for parameter in (*model[0].parameters(), *model[1].parameters()):
        assert parameter.grad is not None
        assert 0 == int(parameter[rows].count_nonzero()) == int(parameter.grad[rows].count_nonzero())
    assert torch.equal(before[stays], model[0].weight[stays])
