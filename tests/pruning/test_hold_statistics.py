"""Batch statistics held constant: the same loss, another derivative; each method beside its formula with them held."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from ntksap_export.masks import Mask
from ntksap_export.pruning import ScoringInputs, make_scorer
from ntksap_export.pruning.inputs import Norms
from ntksap_export.pruning.scorers.gradients import call, loss_gradients, masked_weights, modes

from ..support.nets import TinyNet, random_mask, tiny_net

Tensors = dict[str, torch.Tensor]
IMAGES = torch.randn(12, 3, 9, 9, generator=torch.Generator().manual_seed(8))
LABELS = torch.arange(12) % 3
DATA = (IMAGES, LABELS)
BATCHES = [(IMAGES[part].double(), LABELS[part]) for part in (slice(0, 6), slice(6, 12))]
HELD = ScoringInputs((3, 9, 9), batch_size=6, batches=2, seed=2, data=DATA, hold_statistics=True)
METHODS = ["snip", "iter-snip", "force", "grasp", "prospr"]


def gradients(net: nn.Module, norms: Norms) -> Tensors:
    with modes(net, norms):
        return loss_gradients(net, masked_weights(net, Mask.dense(net)), HELD)


def filter_sums(net: TinyNet, norms: Norms) -> torch.Tensor:
    """For each filter that a BatchNorm follows, |sum of w * dL/dw| / sum of |w * dL/dw|."""
    by_weight = gradients(net, norms)
    products = [(net.get_parameter(name) * by_weight[name]).flatten(1) for name in ("conv1.weight", "conv2.weight")]
    return torch.cat([(product.sum(1).abs() / product.abs().sum(1)) for product in products]).detach()


def test_a_filters_sum_is_zero_with_batch_statistics_and_is_not_with_held_ones() -> None:
    net = tiny_net(seed=5)

    batch, held = filter_sums(net, "batch"), filter_sums(net, "held")

    assert float(batch.max()) < 1e-3
    assert float(held.median()) > 0.05


def test_the_function_is_the_same_and_differs_from_running_statistics() -> None:
    net = tiny_net(seed=5)
    weights = masked_weights(net, Mask.dense(net))
    logits = {}
    for norms in ("batch", "held", "eval"):
        with modes(net, norms):  # type: ignore[arg-type]
            logits[norms] = call(net, weights, IMAGES).detach()

    torch.testing.assert_close(logits["held"], logits["batch"], rtol=1e-4, atol=1e-5)
    assert float((logits["eval"] - logits["batch"]).abs().max()) > 0.05


def test_nothing_is_left_behind() -> None:
    net = tiny_net(seed=5, track=False).train()
    tracked = tiny_net(seed=5).eval()
    buffers = {name: (buffer, buffer._version) for name, buffer in tracked.named_buffers()}

    held = gradients(net, "held")

    assert all(torch.equal(held[name], gradient) for name, gradient in gradients(tracked, "held").items())
    assert net.bn1.running_mean is None
    assert all(module.training for module in net.modules())
    assert not any(module.training for module in tracked.modules())
    assert all(tracked.get_buffer(name) is was and was._version == version for name, (was, version) in buffers.items())


class Elsewhere(nn.Module):
    """BatchNorm without affine, called as a function with positional arguments, on flat features."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.batch_norm(self.fc1(x.flatten(1)), None, None, None, None, True)
        logits: torch.Tensor = self.fc2(torch.relu(x))
        return logits


def test_a_norm_that_is_a_function_call_is_held_too() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Elsewhere()
    inputs = ScoringInputs((3, 2, 2), batch_size=12, data=(IMAGES[:, :, :2, :2], LABELS))
    sums = {}
    for norms in ("batch", "held"):
        with modes(net, norms):  # type: ignore[arg-type]
            by_weight = loss_gradients(net, masked_weights(net, Mask.dense(net)), inputs)
        sums[norms] = float((net.fc1.weight.detach() * by_weight["fc1.weight"]).sum(1).abs().max())

    assert sums["batch"] < 1e-4 < 1e-2 < sums["held"]


def normalized(x: torch.Tensor) -> torch.Tensor:
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    variance = (x - mean).square().mean(dim=(0, 2, 3), keepdim=True)
    return (x - mean.detach()) / torch.sqrt(variance.detach() + 1e-5)


def loss(net: TinyNet, weights: Tensors, batch: int, temperature: float = 1.0) -> torch.Tensor:
    biases = {name: parameter.detach().double() for name, parameter in net.named_parameters()}
    images, labels = BATCHES[batch]
    x = functional.conv2d(images, weights["conv1.weight"], biases["conv1.bias"], padding=1)
    x = functional.conv2d(normalized(x).clamp(min=0), weights["conv2.weight"], biases["conv2.bias"], stride=2)
    scaled = (normalized(x).clamp(min=0).mean(dim=(2, 3)) @ weights["fc.weight"].T + biases["fc.bias"]) / temperature
    return (scaled.logsumexp(1) - scaled.gather(1, labels[:, None]).squeeze(1)).mean()


def slowly(name: str, net: TinyNet, mask: Mask) -> torch.Tensor:
    """The method's formula over all weights, flat."""
    weights = {key: net.get_parameter(key).detach().double() for key in mask}
    kept = torch.cat([mask[key].flatten() for key in mask]).double()
    flat = torch.cat([weight.flatten() for weight in weights.values()])

    def named(vector: torch.Tensor) -> Tensors:
        parts = vector.split([weight.numel() for weight in weights.values()])
        return {key: part.view(weights[key].shape) for key, part in zip(mask, parts, strict=True)}

    def total(vector: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
        return loss(net, named(vector), 0, temperature) + loss(net, named(vector), 1, temperature)

    if name == "prospr":
        factors = kept.clone().requires_grad_()
        here = factors * flat
        for batch in (0, 1, 0):
            (step,) = torch.autograd.grad(loss(net, named(here), batch), here, create_graph=True)
            here = here - 0.1 * step * kept
        (gradient,) = torch.autograd.grad(loss(net, named(here), 1), factors)
        return gradient.abs() * kept
    if name == "grasp":
        here = (flat * kept).requires_grad_()
        (slope,) = torch.autograd.grad(total(here, 200.0), here, create_graph=True)
        (product,) = torch.autograd.grad(slope @ slope.detach(), here)
        return here.detach() * product
    here = (flat * kept).requires_grad_()
    (slope,) = torch.autograd.grad(total(here), here)
    return ((flat if name == "force" else here.detach()) * slope).abs()


@pytest.mark.parametrize("density", [1.0, 0.6])
@pytest.mark.parametrize("name", METHODS)
def test_methods_are_their_formulas_with_constant_statistics(name: str, density: float) -> None:
    net = tiny_net(seed=5)
    mask = Mask.dense(net) if density == 1.0 else random_mask(net, density)

    scores = make_scorer(name).score(net, mask, HELD, 0)

    expected = slowly(name, net, mask)
    actual = torch.cat([scores[key].flatten() for key in mask]).double()
    assert float((actual - expected).abs().max()) <= 2e-4 * float(expected.abs().max())
    free = make_scorer(name).score(net, mask, ScoringInputs((3, 9, 9), 6, 2, 2, DATA), 0)
    other = torch.cat([free[key].flatten() for key in mask]).double()
    assert float((other - expected).abs().max()) > 0.05 * float(expected.abs().max())


@pytest.mark.parametrize("name", ["ntksap", "synflow", "px", "phew", "magnitude", "random", "erk"])
def test_methods_without_such_gradients_do_not_change(name: str) -> None:
    net = tiny_net(seed=5)
    mask = Mask.dense(net)

    held = make_scorer(name).score(net, mask, HELD, 0)

    free = make_scorer(name).score(net, mask, ScoringInputs((3, 9, 9), 6, 2, 2, DATA), 0)
    assert all(torch.equal(free[key], held[key]) for key in mask)
