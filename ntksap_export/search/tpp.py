"""TPP: push filters out without hurting the trainability of those that stay (Wang & Fu, ICLR 2023).

The filters of least L1 norm are chosen once. For each convolution or linear layer with filters that go, W (out, rest):

    loss  += decorrelation * reg(t) * mean((W W^T - T)^2)       T = W W^T, detached, 0 in rows and columns that go
    grad  += reg(t) * p         p: rows of weight and bias that go, and gamma and beta of the norms behind them

T leaves the products of kept filters alone: kept filters are only made orthogonal to those that go. reg(t) grows
(`growing`); when it has reached its limit, layers are set to zero one after the other, 100 steps apart or as many as
the search has left. Then the channels are removed.

Differs from the reference code: residual sums tie the filters of several layers together here, and all of them are
penalized (the paper prunes the inner convolutions of each block only); the Gram term leaves out grouped convolutions,
whose filters read different inputs; after a layer is set to zero, momentum moves it for a few steps more.
"""

from __future__ import annotations

import torch
from torch import nn

from ntksap_export.search.choice import Choice
from ntksap_export.search.growing import Going, Growth, Hook, grow, removed_rows
from ntksap_export.search.job import Found, SearchJob

_APART = 100  # optimizer steps between two layers that are set to zero


def tpp(job: SearchJob) -> Found:
    """Push out the filters that L1 chose; see `run_search`."""

    def hook_of(network: nn.Module, choice: Choice, growth: Growth) -> Hook:
        assert choice.plan is not None  # the table lets nothing but channels through
        going = removed_rows(network, choice.plan, beside=True)
        return on_gradients(going, grams_of(network, going), growth, job.decorrelation)

    return grow(job, "tpp", hook_of)


def grams_of(network: nn.Module, going: list[Going]) -> list[Going]:
    """The weights among `going` whose filters all read the same inputs."""
    modules = dict(network.named_modules())
    grams = []
    for part in going:
        layer, _, name = part.name.rpartition(".")
        if name == "weight" and part.parameter.ndim > 1 and getattr(modules[layer], "groups", 1) == 1:
            grams.append(part)
    return grams


@torch.no_grad()
def decorrelate_(part: Going, factor: float) -> None:
    """Add the gradient of factor * mean((W W^T - T)^2) to that of the weight.

    With D = W W^T - T, which is symmetric: 4 * factor / out^2 * D W.
    """
    weight = part.parameter.flatten(1)  # (out, rest)
    gone = part.gone.flatten()
    touched = 1 - torch.outer(1 - gone, 1 - gone)  # (out, out): where row or column goes
    gradient = (weight @ weight.T * touched) @ weight
    if part.parameter.grad is not None:
        part.parameter.grad.add_(gradient.view_as(part.parameter), alpha=4 * factor / len(weight) ** 2)


def zeroing(going: list[Going], growth: Growth) -> dict[str, int]:
    """Layer -> the optimizer step from which on what goes of it is zero."""
    layers = list(dict.fromkeys(part.name.rpartition(".")[0] for part in going))
    apart = min(_APART, (growth.steps - growth.reached) // (len(layers) + 1))
    last = max(0, growth.steps - 1)
    return {layer: min(last, growth.reached + apart * (index + 1)) for index, layer in enumerate(layers)}


def on_gradients(going: list[Going], grams: list[Going], growth: Growth, decorrelation: float) -> Hook:
    """What TPP does at an optimizer step.

    Args:
        going: rows of weights, biases and norms that go.
        grams: the weights among them that are decorrelated.
        growth: of the L2 factor.
        decorrelation: lambda, times the factor.
    """
    begins = zeroing(going, growth)

    def on_gradient(step: int) -> None:
        factor = growth.at(step)
        for part in grams if factor * decorrelation else ():
            decorrelate_(part, decorrelation * factor)
        for part in going:
            part.penalize_(factor)
            if step >= begins[part.name.rpartition(".")[0]]:
                part.zero_()

    return on_gradient
