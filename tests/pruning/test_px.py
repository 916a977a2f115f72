"""PX beside its formula: a sum over all paths where those can be listed, a slow writing where not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask
from ntksap_export.pruning import ScoringInputs
from ntksap_export.pruning.scorers.px import Px

from ..support.nets import random_mask, tiny_net

Tensors = dict[str, torch.Tensor]
IMAGES = torch.randn(12, 3, 9, 9, generator=torch.Generator().manual_seed(8))
INPUTS = ScoringInputs((3, 9, 9), 6, 2, seed=2, data=(IMAGES, torch.arange(12) % 3))


def agree(expected: Tensors, actual: Tensors) -> None:
    """Up to one positive factor, which a round of PX leaves open."""
    left, right = (torch.cat([tensors[name].flatten() for name in expected]) for tensors in (expected, actual))

    assert float(expected[min(expected)].max()) > 0
    torch.testing.assert_close(right / right.max(), left / left.max(), rtol=1e-6, atol=1e-9)


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6], ids=["ReLU", "ReLU6"])
def test_px_is_a_sum_over_paths(activation: type[nn.Module]) -> None:
    net = seeded(
        lambda: nn.Sequential(
            *(nn.Flatten(), nn.Linear(4, 3), activation(), nn.Linear(3, 5), activation(), nn.Linear(5, 2))
        )
    )
    images = 20 * IMAGES[:6, :1, :2, :2]  # large: some units are at 6
    mask = random_mask(net, 0.6, seed=1)
    inputs = ScoringInputs((1, 2, 2), batch_size=3, batches=2, data=(images, torch.zeros(6, dtype=torch.int64)))
    w1, w2, w3 = (net.get_parameter(name).detach().double() * mask[name] for name in mask)
    m1, m2, m3 = (mask[name].double() for name in mask)
    b1, b2 = (net.get_parameter(name).detach().double() for name in ("1.bias", "3.bias"))
    top = 6.0 if activation is nn.ReLU6 else math.inf
    x = images.flatten(1).double()
    first = x @ w1.T + b1
    second = first.clamp(0, top) @ w2.T + b2
    on1, on2 = ((first > 0) & (first < top)).double(), ((second > 0) & (second < top)).double()

    paths = list(itertools.product(range(4), range(3), range(5), range(2)))
    opened, carried = [0.0, 0.0], [0.0, 0.0]
    for i, j, k, o in paths:
        kept = float(m1[j, i] * m2[k, j] * m3[o, k])
        opened[o] += kept * float((x[:, i].square() * on1[:, j] * on2[:, k]).sum())
        carried[o] += float(w1[j, i] * w2[k, j] * w3[o, k]) ** 2
    expected = {name: torch.zeros(kept.shape, dtype=torch.float64) for name, kept in mask.items()}
    for i, j, k, o in paths:  # R = sum of opened * carried; of carried, what passes through each weight
        through = opened[o] * float(w1[j, i] * w2[k, j] * w3[o, k]) ** 2
        for score, place in zip(expected.values(), ((j, i), (k, j), (o, k)), strict=True):
            score[place] += through

    agree(expected, dict(Px().score(net, mask, inputs, 0)))
    assert opened[0] != opened[1] and bool((first > 6).any()) and bool((first < 0).any())


def normalized(x: torch.Tensor) -> torch.Tensor:
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    return (x - mean) / torch.sqrt((x - mean).square().mean(dim=(0, 2, 3), keepdim=True) + 1e-5)


@pytest.mark.parametrize("density", [1.0, 0.6])
def test_px_with_convolutions_and_norms(density: float) -> None:
    net = tiny_net(seed=5)
    mask = Mask.dense(net) if density == 1.0 else random_mask(net, density)
    state = {name: value.detach().double() for name, value in net.named_parameters()}
    kept = {name: tensor.double() for name, tensor in mask.items()}
    squares = {name: (state[name] * kept[name]).square().requires_grad_() for name in mask}

    def linear(weights: Tensors, x: torch.Tensor, on1: torch.Tensor, on2: torch.Tensor) -> torch.Tensor:
        x = functional.conv2d(x, weights["conv1.weight"], padding=1) * on1
        x = functional.conv2d(x, weights["conv2.weight"], stride=2) * on2
        return x.mean(dim=(2, 3)) @ weights["fc.weight"].T

    one = torch.ones(1, dtype=torch.float64)
    opened = torch.zeros(3, dtype=torch.float64)
    for x in (IMAGES[:6].double(), IMAGES[6:].double()):
        h = functional.conv2d(x, state["conv1.weight"] * kept["conv1.weight"], state["conv1.bias"], padding=1)
        h = normalized(h)
        on1 = (h > 0).double()
        h = functional.conv2d(h * on1, state["conv2.weight"] * kept["conv2.weight"], state["conv2.bias"], stride=2)
        opened += linear(kept, x.square(), on1, (normalized(h) > 0).double()).sum(0)
    carried = linear(squares, torch.ones(1, 3, 9, 9, dtype=torch.float64), one, one)[0]
    gradients = torch.autograd.grad((opened * carried).sum(), list(squares.values()))
    expected = {name: g * squares[name].detach() for name, g in zip(squares, gradients, strict=True)}

    agree(expected, dict(Px().score(net, mask, INPUTS, 0)))


def test_px_lets_the_winners_of_a_max_pool_through() -> None:
    net = seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 2)))
    mask = random_mask(net, 0.7)
    conv, fc = (net.get_parameter(name).detach().double() * mask[name] for name in mask)
    bias = net.get_parameter("0.bias").detach().double()

    def windows(x: torch.Tensor) -> torch.Tensor:
        return x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)  # (N, 4, 4, 4, 2 * 2)

    x = IMAGES.double()
    h = functional.conv2d(x, conv, bias)
    counted = functional.conv2d(x.square(), mask["0.weight"].double()) * (h > 0)
    winners = windows(h.clamp(min=0)).argmax(4, keepdim=True)
    opened = (windows(counted).gather(4, winners).flatten(1) @ mask["4.weight"].double().T).sum(0)
    squares = {"0.weight": conv.square().requires_grad_(), "4.weight": fc.square().requires_grad_()}
    image = torch.ones(1, 3, 9, 9, dtype=torch.float64)
    pooled = windows(functional.conv2d(image, squares["0.weight"])).amax(4).flatten(1)
    gradients = torch.autograd.grad((opened * (pooled @ squares["4.weight"].T)[0]).sum(), list(squares.values()))
    expected = {name: g * squares[name].detach() for name, g in zip(squares, gradients, strict=True)}

    agree(expected, dict(Px().score(net, mask, INPUTS, 0)))


class AnyRelu(nn.Module):
    """conv, ReLU, conv, ReLU, linear; the ReLU is given."""

    def __init__(self, relu: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 3)
        self.relu = relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(self.relu(self.conv2(self.relu(self.conv1(x)))).mean((2, 3)))
        return logits


def in_passing(x: torch.Tensor) -> torch.Tensor:
    x.relu_()
    return x


@pytest.mark.parametrize(
    "relu",
    [
        *(nn.ReLU(inplace=True), functional.relu, torch.relu, torch.relu_, torch.Tensor.relu, in_passing),
        *(lambda x: functional.relu(x, inplace=True), lambda x: functional.relu(input=x), lambda x: x.relu()),
    ],
)
def test_px_knows_a_relu_however_it_is_called(relu: Callable[[torch.Tensor], torch.Tensor]) -> None:
    net = seeded(lambda: AnyRelu(nn.ReLU()))
    mask = random_mask(net, 0.5)  # of a dense network all logits of g are equal, whatever the ReLUs do
    expected = Px().score(net, mask, INPUTS, 0)
    net.relu = None  # type: ignore[assignment]
    del net.relu
    net.relu = relu

    scores = Px().score(net, mask, INPUTS, 0)

    assert all(torch.equal(expected[name], scores[name]) for name in expected)


def test_px_of_a_dense_network_does_not_depend_on_the_images() -> None:
    net = tiny_net()
    mask = Mask.dense(net)
    other = ScoringInputs((3, 9, 9), 6, 2, seed=2, data=(IMAGES.flip(0) - 1, torch.zeros(12, dtype=torch.int64)))
    sparse = random_mask(net, 0.5)

    agree(dict(Px().score(net, mask, INPUTS, 0)), dict(Px().score(net, mask, other, 0)))
    with pytest.raises(AssertionError):
        agree(dict(Px().score(net, sparse, INPUTS, 0)), dict(Px().score(net, sparse, other, 0)))


@pytest.mark.parametrize("other", [nn.GELU(), nn.SiLU(), torch.sigmoid, nn.LeakyReLU(), nn.Hardtanh(), torch.tanh])
def test_px_refuses_activations_that_are_never_off(other: Callable[[torch.Tensor], torch.Tensor]) -> None:
    net = seeded(lambda: AnyRelu(other))

    with pytest.raises(ConfigError, match=r"px needs activations that are on or off .* calls \w+; choose another"):
        Px().score(net, Mask.dense(net), INPUTS, 0)


def test_px_of_a_deep_network_is_finite() -> None:
    net = seeded(lambda: nn.Sequential(nn.Flatten(), *(nn.Linear(30, 30) for _ in range(220)), nn.Linear(30, 2)))
    images = IMAGES.flatten()[:120].view(4, 30, 1, 1)
    inputs = ScoringInputs((30, 1, 1), batch_size=4, data=(images, torch.zeros(4, dtype=torch.int64)))

    scores = Px().score(net, Mask.dense(net), inputs, 0)

    assert 221 * math.log10(30) > 308  # more paths to a logit than a float64 can count
    assert all(bool(score.isfinite().all()) and float(score.max()) > 0 for score in scores.values())


def test_px_reads_images_and_no_labels() -> None:
    net = tiny_net()
    mask = Mask.dense(net)
    other = ScoringInputs((3, 9, 9), 6, 2, seed=2, data=(IMAGES, (torch.arange(12) + 1) % 3))
    scores = Px().score(net, mask, INPUTS, 0)

    assert all(torch.equal(scores[name], score) for name, score in Px().score(net, mask, other, 0).items())
    with pytest.raises(ConfigError, match="reads images and labels"):
        Px().score(net, mask, ScoringInputs((3, 9, 9)), 0)
    assert 100 == Px().default_rounds
