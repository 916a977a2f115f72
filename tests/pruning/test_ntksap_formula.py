"""NTK-SAP beside equation 10 of its paper, written slowly: double precision, the mask itself as the variable.

    S(m_j) = | d/dm_j  sum_i || f(z_i; th_i * m) - f(z_i; (th_i + D_i) * m) ||^2 |

The scorer never has a mask in its graph, differentiates one batch at a time and works in single precision (gradients in
bf16 where asked for). Here the mask is multiplied into the weights, all batches are summed into one number, and that is
differentiated once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from torch import nn
from torch.nn import functional

from ntksap_export.masks import Mask
from ntksap_export.pruning import NtkSap, ScoringInputs

from ..support.nets import TinyNet, random_mask, tiny_net

Tensors = Mapping[str, torch.Tensor]
CPU = torch.device("cpu")
INPUTS = ScoringInputs((3, 9, 9), batch_size=5, batches=2, seed=11)
DRAWS = 2
ROUND = 4


def drawn(net: TinyNet, mask: Mask, epsilon: float) -> list[tuple[torch.Tensor, Tensors, Tensors]]:
    """z, th and D of every batch, in the order of the scorer: images, all fresh weights, all perturbations."""
    batches = []
    for draw in range(DRAWS):
        for batch in range(INPUTS.batches):
            generator = INPUTS.generator(CPU, ROUND, draw, batch)
            images = torch.randn(INPUTS.batch_size, *INPUTS.shape, generator=generator)
            fresh, perturbation = {}, {}
            for name in mask:
                shape = net.get_parameter(name).shape
                fan_in = math.prod(shape[1:])
                fresh[name] = torch.empty(shape).normal_(0.0, math.sqrt(2 / fan_in), generator=generator).double()
            for name in mask:
                shape = net.get_parameter(name).shape
                perturbation[name] = torch.empty(shape).normal_(0.0, epsilon, generator=generator).double()
            batches.append((images.double(), fresh, perturbation))
    return batches


def normalized(x: torch.Tensor, statistics: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    mean, variance = statistics
    return (x - mean) / torch.sqrt(variance + 1e-5)


def measured(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and unbiased variance of each channel, as constants."""
    count = x.numel() // x.shape[1]
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    variance = (x - mean).square().sum(dim=(0, 2, 3), keepdim=True) / (count - 1)
    return mean.detach(), variance.detach()


def logits_of(
    net: TinyNet, weights: Tensors, x: torch.Tensor, statistics: list[tuple[torch.Tensor, torch.Tensor]] | None
) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
    """The network's answer, and the statistics it was normalized with: its own if none are given."""
    assert net.conv1.bias is not None
    assert net.conv2.bias is not None
    used = []
    x = functional.conv2d(x, weights["conv1.weight"], net.conv1.bias.detach().double(), padding=1)
    used.append(measured(x) if statistics is None else statistics[0])
    x = normalized(x, used[0]).clamp(min=0)
    x = functional.conv2d(x, weights["conv2.weight"], net.conv2.bias.detach().double(), stride=2)
    used.append(measured(x) if statistics is None else statistics[1])
    x = normalized(x, used[1]).clamp(min=0)
    return x.mean(dim=(2, 3)) @ weights["fc.weight"].T + net.fc.bias.detach().double(), used


def derivative(
    net: TinyNet, mask: Mask, batches: list[tuple[torch.Tensor, Tensors, Tensors]]
) -> dict[str, torch.Tensor]:
    """The inside of | ... | of equation 10, over `batches`."""
    m = {name: kept.double().requires_grad_() for name, kept in mask.items()}
    objective = torch.zeros((), dtype=torch.float64)
    for z, th, d in batches:
        here, statistics = logits_of(net, {name: th[name] * m[name] for name in m}, z, None)
        there, _ = logits_of(net, {name: (th[name] + d[name]) * m[name] for name in m}, z, statistics)
        objective = objective + (here - there).square().sum()
    return dict(zip(m, torch.autograd.grad(objective, list(m.values())), strict=True))


def equation_10(net: TinyNet, mask: Mask, epsilon: float = 0.01) -> dict[str, torch.Tensor]:
    signed = derivative(net, mask, drawn(net, mask, epsilon))
    return {name: (gradient * mask[name]).abs() for name, gradient in signed.items()}


def flat(scores: Tensors, mask: Mask) -> torch.Tensor:
    """The scores of what lives, one after another."""
    return torch.cat([scores[name][mask[name]].double() for name in mask])


def rank_correlation(left: torch.Tensor, right: torch.Tensor) -> float:
    ranks = torch.stack((left.argsort().argsort(), right.argsort().argsort())).double()
    return torch.corrcoef(ranks)[0, 1].item()


def awkward_net() -> TinyNet:
    """Norms, running statistics and weights far from where scoring must put them."""
    net = tiny_net(seed=5)
    with torch.no_grad():
        for norm in (net.bn1, net.bn2):
            norm.weight.fill_(3.0)
            norm.bias.fill_(-2.0)
            norm.running_mean.fill_(4.0)  # type: ignore[union-attr]
            norm.running_var.fill_(0.1)  # type: ignore[union-attr]
        for layer in (net.conv1, net.conv2, net.fc):
            layer.weight.fill_(1.0)
    return net


@pytest.mark.parametrize("density", [1.0, 0.5, 0.2])
@pytest.mark.parametrize("epsilon", [0.01, 0.1])
def test_scores_are_equation_10(density: float, epsilon: float) -> None:
    net = awkward_net()
    mask = Mask.dense(net) if density == 1.0 else random_mask(net, density)

    scores = NtkSap(epsilon=epsilon, draws=DRAWS, precision="fp32").score(net, mask, INPUTS, ROUND)

    expected = equation_10(net, mask, epsilon)
    for name in mask:  # a layer's scores may be far below another's
        torch.testing.assert_close(
            scores[name].double(), expected[name], rtol=0.0, atol=1e-3 * expected[name].max().item()
        )
    assert rank_correlation(flat(expected, mask), flat(scores, mask)) > 0.9999


@pytest.mark.parametrize("density", [1.0, 0.5, 0.2])
def test_gradients_in_bf16_rank_weights_like_equation_10(density: float) -> None:
    net = awkward_net()
    mask = Mask.dense(net) if density == 1.0 else random_mask(net, density)

    scores = NtkSap(draws=DRAWS, precision="bf16").score(net, mask, INPUTS, ROUND)

    assert rank_correlation(flat(equation_10(net, mask), mask), flat(scores, mask)) > 0.99


def test_only_what_is_pruned_or_cut_off_scores_zero() -> None:
    net = awkward_net()
    mask = random_mask(net, 0.5)

    scores = NtkSap(draws=DRAWS).score(net, mask, INPUTS, ROUND)

    assert list(mask) == list(scores)
    assert all(torch.count_nonzero(scores[name][~mask[name]]) == 0 for name in mask)
    expected = equation_10(net, mask)
    assert torch.equal(flat(expected, mask) == 0, flat(scores, mask) == 0)
    assert torch.count_nonzero(flat(scores, mask)) > 0.9 * mask.kept
    assert all(scores[name].shape == mask[name].shape and bool((scores[name] >= 0).all()) for name in mask)


def test_the_absolute_value_is_taken_after_the_sum() -> None:
    net = awkward_net()
    mask = random_mask(net, 0.5)
    batches = drawn(net, mask, 0.01)
    each = [derivative(net, mask, [batch]) for batch in batches]
    after = flat({name: sum(one[name] for one in each).abs() for name in mask}, mask)  # type: ignore[union-attr]
    before = flat({name: sum(one[name].abs() for one in each) for name in mask}, mask)  # type: ignore[misc]

    scores = flat(NtkSap(draws=DRAWS, precision="fp32").score(net, mask, INPUTS, ROUND), mask)

    assert DRAWS * INPUTS.batches == len(each)
    assert (scores - before).abs().max() > 0.1 * before.max()
    torch.testing.assert_close(scores, after, rtol=0.0, atol=1e-3 * after.max().item())


def test_every_part_of_the_key_changes_the_draws() -> None:
    net = awkward_net()
    mask = Mask.dense(net)
    base = ScoringInputs((3, 9, 9), batch_size=5, batches=1, seed=11)
    scorer = NtkSap()

    variants = [
        scorer.score(net, mask, base, 0),
        scorer.score(net, mask, base, 1),
        scorer.score(net, mask, ScoringInputs((3, 9, 9), batch_size=5, batches=1, seed=12), 0),
        scorer.score(net, mask, ScoringInputs((3, 9, 9), batch_size=5, batches=2, seed=11), 0),
        NtkSap(draws=2).score(net, mask, base, 0),
    ]

    first = [tuple(flat(scores, mask).tolist()) for scores in variants]
    assert len(variants) == len(set(first))


def test_a_linear_network_has_a_closed_form() -> None:
    # f = x W^T, so || f(W m) - f((W + D) m) ||^2 = sum (x (D m)^T)^2, and its derivative by m is 2 D * (G^T x).
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 4, bias=False))
    mask = random_mask(net, 0.6)
    inputs = ScoringInputs((3, 2, 2), batch_size=6, seed=2)
    generator = inputs.generator(CPU, 0, 0, 0)
    x = torch.randn(6, 12, generator=generator).double()
    torch.empty(4, 12).normal_(0.0, 1.0, generator=generator)  # W does not matter
    d = torch.empty(4, 12).normal_(0.0, 0.01, generator=generator).double()
    kept = mask["1.weight"].double()

    scores = NtkSap().score(net, mask, inputs, 0)

    expected = (2 * d * ((x @ (d * kept).T).T @ x)).abs() * kept
    torch.testing.assert_close(scores["1.weight"].double(), expected, rtol=0.0, atol=1e-3 * expected.max().item())
