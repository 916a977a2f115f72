"""Each method beside its paper's formula, written slowly in double precision on a net of 618 weights.

The net is written out with functions here; the methods call the module. GraSP is checked against a whole Hessian,
ProsPr against differences of the loss after its inner steps, ERK against its equation solved by bisection.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch.nn import functional

from ntksap_export.masks import Mask
from ntksap_export.pruning import Budget, Scorer, ScoringInputs, make_scorer, prune

from ..support.nets import TinyNet, random_mask, tiny_net

Tensors = dict[str, torch.Tensor]
GENERATOR = torch.Generator().manual_seed(8)
IMAGES = torch.randn(12, 3, 9, 9, generator=GENERATOR)
LABELS = torch.arange(12) % 3
INPUTS = ScoringInputs((3, 9, 9), batch_size=6, batches=2, seed=2, data=(IMAGES, LABELS))
BATCHES = [(IMAGES[part].double(), LABELS[part]) for part in (slice(0, 6), slice(6, 12))]


def batch_normalized(x: torch.Tensor) -> torch.Tensor:
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    variance = (x - mean).square().mean(dim=(0, 2, 3), keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-5)


def logits(net: TinyNet, weights: Tensors, x: torch.Tensor) -> torch.Tensor:
    biases = {name: parameter.detach().double() for name, parameter in net.named_parameters()}
    x = functional.conv2d(x, weights["conv1.weight"], biases["conv1.bias"], padding=1)
    x = batch_normalized(x).clamp(min=0)
    x = functional.conv2d(x, weights["conv2.weight"], biases["conv2.bias"], stride=2)
    x = batch_normalized(x).clamp(min=0)
    return x.mean(dim=(2, 3)) @ weights["fc.weight"].T + biases["fc.bias"]


def loss(net: TinyNet, weights: Tensors, batch: int, temperature: float = 1.0) -> torch.Tensor:
    images, labels = BATCHES[batch]
    scaled = logits(net, weights, images) / temperature
    return (scaled.logsumexp(1) - scaled.gather(1, labels[:, None]).squeeze(1)).mean()


def initial(net: TinyNet, mask: Mask) -> Tensors:
    return {name: net.get_parameter(name).detach().double() for name in mask}


def joined(tensors: Tensors) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors.values()]).double()


def separated(flat: torch.Tensor, like: Tensors) -> Tensors:
    parts = flat.split([tensor.numel() for tensor in like.values()])
    return {name: part.view(tensor.shape) for (name, tensor), part in zip(like.items(), parts, strict=True)}


def agree(expected: torch.Tensor, name: str, net: TinyNet, mask: Mask) -> None:
    actual = joined(dict(make_scorer(name).score(net, mask, INPUTS, 0)))

    assert float((actual - expected).abs().max()) <= 2e-4 * float(expected.abs().max())
    assert float(expected.abs().max()) > 0


@pytest.fixture(params=[1.0, 0.6], ids=["dense", "masked"])
def case(request: pytest.FixtureRequest) -> tuple[TinyNet, Mask]:
    net = tiny_net(seed=5)
    return net, Mask.dense(net) if request.param == 1.0 else random_mask(net, request.param)


def loss_by(net: TinyNet, like: Tensors, temperature: float = 1.0) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda flat: sum(
        (loss(net, separated(flat, like), batch, temperature) for batch in range(2)), start=torch.zeros(()).double()
    )


@pytest.mark.parametrize("name", ["snip", "iter-snip"])
def test_snip_is_the_derivative_by_the_mask(name: str, case: tuple[TinyNet, Mask]) -> None:
    net, mask = case
    weights = initial(net, mask)
    gate = joined(dict(mask)).requires_grad_()
    total = loss_by(net, weights)(gate * joined(weights))
    (derivative,) = torch.autograd.grad(total, gate)

    agree((derivative * gate.detach()).abs(), name, net, mask)


def test_force_weighs_pruned_weights_with_their_initial_value(case: tuple[TinyNet, Mask]) -> None:
    net, mask = case
    weights = joined(initial(net, mask))
    here = (weights * joined(dict(mask))).requires_grad_()
    (gradient,) = torch.autograd.grad(loss_by(net, initial(net, mask))(here), here)

    agree((weights * gradient).abs(), "force", net, mask)


def test_grasp_is_weight_times_hessian_times_gradient(case: tuple[TinyNet, Mask]) -> None:
    net, mask = case
    here = joined(initial(net, mask)) * joined(dict(mask))
    total = loss_by(net, initial(net, mask), temperature=200.0)
    hessian = torch.autograd.functional.hessian(total, here)
    gradient = torch.autograd.functional.jacobian(total, here)

    agree(here * (hessian @ gradient), "grasp", net, mask)


def test_grasp_keeps_what_the_gradient_norm_needs() -> None:
    net = tiny_net(seed=5)
    mask, weights = Mask.dense(net), joined(initial(net, Mask.dense(net)))
    total = loss_by(net, initial(net, mask), temperature=200.0)
    score = joined(dict(make_scorer("grasp").score(net, mask, INPUTS, 0)))

    def norm_without(index: int) -> float:
        shrunk = weights.clone()
        shrunk[index] *= 0.99  # a small step towards removing it
        return float(torch.autograd.functional.jacobian(total, shrunk).square().sum())

    whole = float(torch.autograd.functional.jacobian(total, weights).square().sum())
    assert norm_without(int(score.argmax())) < whole < norm_without(int(score.argmin()))


def test_synflow_is_the_flow_through_absolute_weights(case: tuple[TinyNet, Mask]) -> None:
    net, mask = case
    with torch.no_grad():
        net.bn1.weight.copy_(torch.linspace(-1, 1, 6))
        assert isinstance(net.bn2.running_mean, torch.Tensor)
        net.bn2.running_mean.fill_(-0.5)
    state = {name: value.double().abs() for name, value in net.state_dict().items()}
    sizes = {name: (state[name] * kept).requires_grad_() for name, kept in mask.items()}

    def norm(x: torch.Tensor, layer: str) -> torch.Tensor:
        mean, variance, gamma, beta = (
            state[f"{layer}.{key}"][None, :, None, None] for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(variance + 1e-5) * gamma + beta

    x = torch.ones(1, 3, 9, 9, dtype=torch.float64)
    x = norm(functional.conv2d(x, sizes["conv1.weight"], state["conv1.bias"], padding=1), "bn1").clamp(min=0)
    x = norm(functional.conv2d(x, sizes["conv2.weight"], state["conv2.bias"], stride=2), "bn2").clamp(min=0)
    flow = (x.mean(dim=(2, 3)) @ sizes["fc.weight"].T + state["fc.bias"]).sum()
    gradients = torch.autograd.grad(flow, list(sizes.values()))
    expected = torch.cat([(w.detach() * g).flatten() for w, g in zip(sizes.values(), gradients, strict=True)])

    agree(expected, "synflow", net, mask)


def test_prospr_is_the_slope_of_the_loss_after_its_steps() -> None:
    net = tiny_net(seed=5)
    mask = random_mask(net, 0.6)
    weights, kept = joined(initial(net, mask)), joined(dict(mask))
    like = initial(net, mask)

    def after_training(gate: torch.Tensor) -> float:
        here = (weights * gate).requires_grad_()
        for batch in (0, 1, 0):
            (gradient,) = torch.autograd.grad(loss(net, separated(here, like), batch), here)
            here = (here - 0.1 * gradient * kept).detach().requires_grad_()
        return float(loss(net, separated(here.detach(), like), 1))

    score = joined(dict(make_scorer("prospr").score(net, mask, INPUTS, 0)))
    for index in [int(score.argmax()), *range(0, len(score), 61)]:
        step = torch.zeros_like(kept)
        step[index] = 1e-6 * kept[index]
        slope = (after_training(kept + step) - after_training(kept - step)) / 2e-6
        assert float(score[index]) == pytest.approx(abs(slope), rel=2e-3, abs=2e-5 * float(score.max()))


def test_magnitude_is_the_size_of_the_weight(case: tuple[TinyNet, Mask]) -> None:
    net, mask = case

    agree((joined(initial(net, mask)) * joined(dict(mask))).abs(), "magnitude", net, mask)


@pytest.mark.parametrize("sparsity", [0.3, 0.8, 0.95])
def test_random_gives_every_layer_the_same_density(sparsity: float) -> None:
    mask = prune(tiny_net(), make_scorer("random"), INPUTS, Budget(sparsity))

    for kept in mask.values():
        assert abs(int(kept.sum()) - kept.numel() * (1 - sparsity)) <= 1


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
def test_erk_solves_its_equation(sparsity: float) -> None:
    net = tiny_net()
    mask = prune(net, make_scorer("erk"), INPUTS, Budget(sparsity))
    raw = {
        "conv1.weight": (3 + 6 + 3 + 3) / (3 * 6 * 9),
        "conv2.weight": (6 + 8 + 6) / (6 * 8 * 9),
        "fc.weight": 11 / 24,
    }
    low, high = 0.0, 1e3
    for _ in range(200):
        middle = (low + high) / 2
        kept = sum(min(1.0, middle * raw[name]) * tensor.numel() for name, tensor in mask.items())
        low, high = (middle, high) if kept < mask.kept else (low, middle)

    for name, tensor in mask.items():
        assert abs(int(tensor.sum()) - min(1.0, low * raw[name]) * tensor.numel()) <= 1


@pytest.mark.parametrize("name", ["snip", "iter-snip", "force", "grasp", "prospr"])
def test_methods_that_read_data_say_so_without_any(name: str) -> None:
    scorer: Scorer = make_scorer(name)

    with pytest.raises(Exception, match="reads images and labels"):
        prune(tiny_net(), scorer, ScoringInputs((3, 9, 9), batch_size=4), Budget(0.5), rounds=1)


def test_force_lets_a_pruned_weight_come_back() -> None:
    rounds: list[Mask] = []
    scorer = make_scorer("force")
    prune(tiny_net(seed=1), scorer, INPUTS, Budget(0.8), rounds=6, on_round=lambda _, mask: rounds.append(mask))

    revived = sum(int((later[name] & ~earlier[name]).sum()) for earlier, later in pairwise(rounds) for name in later)
    assert revived > 0
    assert rounds[-1].kept == round(618 * 0.2)


def test_the_authors_rounds() -> None:
    expected = {"ntksap": 20, "snip": 1, "iter-snip": 60, "force": 60, "grasp": 1, "synflow": 100, "prospr": 1}

    assert expected == {name: make_scorer(name).default_rounds for name in expected}
    assert math.isclose(0.01, make_scorer("ntksap", epsilon=0.01, unknown=3).epsilon)  # type: ignore[attr-defined]
