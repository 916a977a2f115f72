"""Averaged weights: the formula, what stays zero, and what a resumed training takes up."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ntksap_export.training import Average, keep_pruned

from ..support.nets import random_mask
from .cases import net


def walk(model: nn.Module, steps: int, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """Steps of a random walk, as the states after each."""
    random = torch.Generator().manual_seed(seed)
    states = []
    for _ in range(steps):
        state = copy.deepcopy(model.state_dict())
        for value in state.values():
            if value.is_floating_point():
                value.add_(torch.randn(value.shape, generator=random), alpha=0.1)
            else:
                value.add_(1)
        model.load_state_dict(state)
        states.append(state)
    return states


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_it_is_the_formula_with_its_warm_up(decay: float) -> None:
    model = net()
    expected = {name: value.double() for name, value in model.state_dict().items()}
    average = Average(model, decay)

    for step, state in enumerate(walk(copy.deepcopy(model), 20), start=1):
        model.load_state_dict(state)
        average.update_(model)
        used = min(decay, (1 + step) / (10 + step))
        for name, value in state.items():
            share = used if value.is_floating_point() else 0.0
            expected[name] = share * expected[name] + (1 - share) * value.double()

    for name, value in average.model.state_dict().items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)


def test_a_constant_model_is_its_own_average_and_both_are_apart() -> None:
    model = net()
    before = copy.deepcopy(model.state_dict())
    average = Average(model, 0.9)

    for _ in range(3):
        average.update_(model)

    for name, value in average.model.state_dict().items():
        assert torch.equal(before[name], value), name
        assert value.data_ptr() != model.state_dict()[name].data_ptr()
    assert model.training
    assert not average.model.training
    assert not any(parameter.requires_grad for parameter in average.model.parameters())


def test_pruned_weights_are_exactly_zero_in_the_average() -> None:
    model = net()
    mask = random_mask(model, 0.3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    keep_pruned(optimizer, model, mask)
    average = Average(model, 0.99)

    for step in range(5):
        loss = model(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update_(model)

    averaged = dict(average.model.named_parameters())
    assert all(bool((averaged[name][~kept] == 0).all()) for name, kept in mask.items())
    assert all(bool((averaged[name][kept] != 0).any()) for name, kept in mask.items())


def test_a_resumed_average_goes_on_bit_by_bit() -> None:
    states = walk(net(), 10)
    model = net()
    whole = Average(model, 0.99)
    for state in states[:4]:
        model.load_state_dict(state)
        whole.update_(model)
    saved = copy.deepcopy(whole.state_dict())
    resumed = Average(net(), 0.99)
    resumed.load_state_dict(saved)

    for state in states[4:]:
        model.load_state_dict(state)
        whole.update_(model)
        resumed.update_(model)

    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_a_wrapped_model_has_the_average_of_the_model_within() -> None:
    model = net()
    wrapped = nn.DataParallel(model)
    average = Average(wrapped, 0.5)
    states = walk(model, 1)

    average.update_(wrapped)

    expected = Average(net(), 0.5)
    other = net()
    other.load_state_dict(states[0])
    expected.update_(other)
    for name, value in average.model.state_dict().items():
        assert torch.equal(expected.model.state_dict()[name], value), name


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_outside_its_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\); got"):
        Average(net(), decay)
