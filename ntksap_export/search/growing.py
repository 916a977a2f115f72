"""A penalty that grows while the network is trained: what pushes chosen weights out instead of cutting them off.

    grad(w) += reg(t) * w                 for every w that is to go
    reg(t)   = min(limit, delta * floor(t / every))         t: the optimizer step, from 0

It is added to the gradient itself (under SGD an L2 term of loss reg / 2 * |w|^2; AdamW divides it by its second moment
like the rest), besides the weight decay that all weights have. With `clip_norm` it is clipped with the rest.

The learning rate is 1e-3, constant, as in the papers, whatever the training's is: a comparison of fine-tuning rates
then compares nothing else. The papers grow by 1e-4 every 5 or 10 of some 100,000 steps and stay at the limit for 10,000
to 50,000. Here, unless `--reg-every` says otherwise, the growth takes half of the steps that there are; where these are
fewer than the growths, each is larger. Under SGD a weight on which no loss pulls shrinks to

    exp(-rate / (1 - momentum) * sum of reg(t))             6e-4 of itself in 1,000 steps with the defaults

of what it was: fewer steps need a higher `--reg-limit`, and are warned of.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, exp

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ntksap_export.masks import Mask
from ntksap_export.pruning import ChannelPlan
from ntksap_export.search.choice import Choice, choose, criterion, device_of
from ntksap_export.search.job import Found, SearchJob
from ntksap_export.search.trainings import search_config, trainings
from ntksap_export.training import TrainConfig, evaluate, resolve_precision

RATE = 1e-3  # constant, as in the papers, whatever the fine-tuning's is
_MUCH = 0.01  # left of a weight that is then cut off


@dataclass(frozen=True, slots=True)
class Growth:
    """The L2 factor over the optimizer steps.

    Attributes:
        delta: what it grows by.
        every: steps between two growths, at least 1.
        limit: where it ends.
        steps: of the whole search.
    """

    delta: float
    every: int
    limit: float
    steps: int

    def at(self, step: int) -> float:
        """The factor at `step`, from 0."""
        return min(self.limit, self.delta * (step // self.every))

    def shrinks_to(self, config: TrainConfig) -> float:
        """The share of itself that the penalty leaves of a weight under SGD; see above."""
        total = sum(self.at(step) for step in range(self.steps))
        return exp(-config.lr / (1 - config.momentum) * total)

    @property
    def reached(self) -> int:
        """The first step at the limit; not beyond the search."""
        return min(self.steps, self.every * ceil(self.limit / self.delta - 1e-9))


def growth_of(job: SearchJob, steps: int) -> Growth:
    """The growth that a job asks for, over so many optimizer steps."""
    if job.reg_every is not None:
        return Growth(job.reg_delta, job.reg_every, job.reg_limit, steps)
    half, growths = max(1, steps // 2), ceil(job.reg_limit / job.reg_delta - 1e-9)
    if growths > half:
        return Growth(job.reg_limit / half, 1, job.reg_limit, steps)
    return Growth(job.reg_delta, half // growths, job.reg_limit, steps)


@dataclass(frozen=True, slots=True, eq=False)
class Going:
    """A part of a parameter that is to go: `gone` is 1 there and 0 elsewhere, and broadcasts to the parameter."""

    name: str
    parameter: nn.Parameter
    gone: torch.Tensor

    @torch.no_grad()
    def penalize_(self, factor: float) -> None:
        """Add the penalty's gradient to the parameter's; one that no loss depends on has none."""
        if self.parameter.grad is not None:
            self.parameter.grad.add_(self.parameter * self.gone, alpha=factor)

    @torch.no_grad()
    def zero_(self) -> None:
        """Take it away, and what would bring it back in the coming step."""
        self.parameter.mul_(1 - self.gone)
        if self.parameter.grad is not None:
            self.parameter.grad.mul_(1 - self.gone)


def pruned_weights(network: nn.Module, mask: Mask) -> list[Going]:
    """The weights that `mask` does not keep."""
    parameters = dict(network.named_parameters())
    return [
        Going(name, parameters[name], (~kept).to(parameters[name]))
        for name, kept in mask.items()
        if not bool(kept.all())
    ]


def removed_rows(network: nn.Module, plan: ChannelPlan, beside: bool = False) -> list[Going]:
    """The filters that `plan` removes, of all layers that a residual sum ties together; in the model's order.

    The columns that read these channels vanish with them and are not penalized: with the filters (and norms) at zero
    there is nothing that they read.

    Args:
        network: dense.
        plan: the channels that stay.
        beside: also the rows of biases, and gamma and beta of norms.
    """
    going = []
    for layer, module in network.named_modules():
        kept = plan.layers[layer].out if layer in plan.layers else None
        wanted = isinstance(module, nn.Conv2d | nn.Linear) or (beside and isinstance(module, _NormBase))
        for name, parameter in module.named_parameters(recurse=False) if kept is not None and wanted else ():
            if name == "weight" or beside:
                gone = torch.ones(len(parameter), device=parameter.device, dtype=parameter.dtype)
                gone[list(kept.channels if kept is not None else ())] = 0
                going.append(Going(f"{layer}.{name}", parameter, gone.view(-1, *[1] * (parameter.ndim - 1))))
    return going


Hook = Callable[[int], None]


def grow(job: SearchJob, method: str, hook_of: Callable[[nn.Module, Choice, Growth], Hook]) -> Found:
    """Choose by L1, train with a growing penalty on what is to go, and remove it.

    Args:
        job: of the search.
        method: its name, for the log.
        hook_of: the dense network in training, what was chosen and the growth -> what is done at each optimizer step.
    """
    config = search_config(job)
    config = replace(config, lr=RATE, schedule="constant", warmup_epochs=0.0)
    choice = choose(job, criterion(job))
    network = copy.deepcopy(job.model)
    with trainings(job) as work:
        growth = growth_of(job, config.epochs * len(work.loaders.train))
        if config.optimizer == "sgd" and (left_over := growth.shrinks_to(config)) > _MUCH:
            job.progress.say(
                f"warning: in {growth.steps} steps the penalty leaves {left_over:.1%} of what is to go; "
                "raise --search-epochs or --reg-limit"
            )
        hook = hook_of(network, choice, growth)
        work.run("growing", network, Mask.dense(network), config, on_gradient=hook)
        left = choice.applied(network)
        precision = resolve_precision(config.precision, device_of(job))
        _, accuracy = evaluate(left, work.loaders.val, precision)
    log = work.log(method, reg_end=growth.at(growth.steps - 1), removed_accuracy=accuracy, density=choice.mask.density)
    return choice.found(network, log)


def l2_of(going: Sequence[Going], growth: Growth) -> Hook:
    """The penalty alone."""

    def on_gradient(step: int) -> None:
        for part in going:
            part.penalize_(growth.at(step))

    return on_gradient
