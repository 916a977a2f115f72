"""keep_pruned(): what the handle does, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from ntksap_export.errors import CheckpointError
from ntksap_export.masks import Mask
from ntksap_export.training import keep_pruned

from ..support.nets import random_mask, tiny_net


def step_with_ones(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def test_removing_the_handle_lets_the_weights_go() -> None:
    model = tiny_net()
    mask = random_mask(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    handle = keep_pruned(optimizer, model, mask)
    step_with_ones(optimizer)
    zeros = [torch.count_nonzero(model.get_parameter(name)[~mask[name]]).item() for name in mask]

    handle.remove()
    step_with_ones(optimizer)

    assert [0, 0, 0] == zeros
    assert all(bool((model.get_parameter(name)[~mask[name]] != 0).all()) for name in mask)


def test_weights_are_zero_before_the_first_step() -> None:
    model = tiny_net()
    mask = random_mask(model)

    keep_pruned(torch.optim.SGD(model.parameters(), lr=0.1), model, mask)

    assert all(torch.equal(mask[name], model.get_parameter(name) != 0) for name in mask)


def test_parameters_without_a_gradient_are_passed_over() -> None:
    model = tiny_net()
    mask = random_mask(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    keep_pruned(optimizer, model, mask)
    model.fc.weight.grad = torch.ones_like(model.fc.weight)

    optimizer.step()

    assert model.conv1.weight.grad is None
    assert torch.equal(mask["fc.weight"], model.fc.weight != 0)


def test_a_dense_mask_changes_nothing() -> None:
    model = tiny_net()
    mask = Mask.dense(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    keep_pruned(optimizer, model, mask)
    before = model.fc.weight.detach().clone()
    step_with_ones(optimizer)

    assert torch.equal(before - 0.1, model.fc.weight)


def test_a_mask_of_another_model_is_refused() -> None:
    model = tiny_net(classes=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    with pytest.raises(CheckpointError, match=r"'fc\.weight' has shape \(4, 8\)"):
        keep_pruned(optimizer, model, Mask.dense(tiny_net(classes=4)))
    assert not optimizer._optimizer_step_pre_hooks
