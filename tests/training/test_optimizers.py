"""The optimizers: which settings reach them, what has no weight decay, and the zeros they leave."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from ntksap_export.training import clip_norm_, keep_pruned, make_optimizer

from ..support.nets import random_mask
from .cases import config, net


def backward(model: nn.Module, seed: int = 0) -> None:
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    model(images).square().mean().backward()


def test_sgd_and_adamw_get_their_settings() -> None:
    sgd = make_optimizer(net(), config(lr=0.3, momentum=0.8, weight_decay=0.02)).defaults
    adamw = make_optimizer(net(), config(optimizer="adamw", lr=0.3, momentum=0.8, weight_decay=0.02)).defaults

    assert (0.3, 0.8, True, 0.02, True) == tuple(
        sgd[key] for key in ("lr", "momentum", "nesterov", "weight_decay", "fused")
    )
    assert (0.3, (0.8, 0.999), 0.02, True) == tuple(adamw[key] for key in ("lr", "betas", "weight_decay", "fused"))


def test_without_momentum_there_is_no_look_ahead() -> None:
    assert not make_optimizer(net(), config(momentum=0.0)).defaults["nesterov"]


def test_another_optimizer_is_refused() -> None:
    with pytest.raises(ValueError, match="optimizer must be sgd or adamw; got 'lion'"):
        make_optimizer(net(), config(optimizer="lion"))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_norms_and_biases_can_go_without_weight_decay(optimizer: str) -> None:
    model = net()
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    groups = make_optimizer(model, config(optimizer=optimizer, decay_norms=False, weight_decay=0.02)).param_groups

    decays = {names[id(item)]: group["weight_decay"] for group in groups for item in group["params"]}
    weights = {"conv1.weight", "conv2.weight", "fc.weight"}
    assert {name: 0.02 if name in weights else 0.0 for name in names.values()} == decays


def test_a_model_of_weights_alone_has_one_group() -> None:
    model = nn.Linear(3, 2, bias=False)

    assert 1 == len(make_optimizer(model, config(decay_norms=False)).param_groups)


def test_adamw_steps_as_its_paper_writes() -> None:
    """Loshchilov & Hutter, ICLR 2019, algorithm 2, in float64."""
    model = nn.Linear(3, 2, bias=False).double()
    gradients = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = model.weight.detach().clone()
    optimizer = make_optimizer(model, config(optimizer="adamw", lr=0.1, momentum=0.9, weight_decay=0.05))

    first, second = torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    for step, gradient in enumerate(gradients, start=1):
        model.weight.grad = gradient.clone()
        optimizer.step()
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        update = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        weight = weight - 0.1 * update - 0.1 * 0.05 * weight

    torch.testing.assert_close(model.weight.detach(), weight, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("changes", [{"optimizer": "adamw"}, {"decay_norms": False}, {"clip_norm": 0.1}], ids=str)
def test_pruned_weights_and_their_state_stay_zero(changes: dict[str, Any]) -> None:
    model, settings = net(), config(weight_decay=0.1, **changes)
    mask = random_mask(model, 0.3)
    optimizer = make_optimizer(model, settings)
    pruned = keep_pruned(optimizer, model, mask)

    for step in range(4):
        optimizer.zero_grad()
        backward(model, step)
        if settings.clip_norm is not None:
            clip_norm_(model, pruned, settings.clip_norm)
        optimizer.step()

    for name, parameter in model.named_parameters():
        if name in mask:
            beside = [value for value in optimizer.state[parameter].values() if value.shape == parameter.shape]
            assert all(bool((value[~mask[name]] == 0).all()) for value in (parameter, *beside)), name
            assert beside
            assert bool((parameter[mask[name]] != 0).any())


def test_clipping_counts_only_the_gradients_of_kept_weights() -> None:
    model = net()
    mask = random_mask(model, 0.3)
    pruned = keep_pruned(make_optimizer(model, config()), model, mask)
    backward(model)
    gradients = {name: parameter.grad.double() for name, parameter in model.named_parameters()}  # type: ignore[union-attr]

    squares = sum(float((g * mask[name] if name in mask else g).square().sum()) for name, g in gradients.items())
    unmasked = sum(float(gradient.square().sum()) for gradient in gradients.values())
    norm = squares**0.5
    measured = clip_norm_(model, pruned, norm / 2)

    assert norm < 0.9 * unmasked**0.5
    assert norm == pytest.approx(float(measured), rel=1e-5)
    for name, parameter in model.named_parameters():
        expected = gradients[name] * mask.get(name, 1) / 2
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad.double(), expected, rtol=1e-4, atol=1e-7)


def test_a_short_gradient_is_not_lengthened() -> None:
    model = net()
    pruned = keep_pruned(make_optimizer(model, config()), model, random_mask(model, 0.3))
    backward(model)
    before = model.fc.bias.grad.clone()  # type: ignore[union-attr]

    clip_norm_(model, pruned, 1e6)

    assert torch.equal(before, model.fc.bias.grad)  # type: ignore[arg-type]
