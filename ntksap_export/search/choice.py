"""What every search does with scores: one place that turns them into a mask or a plan, by `pruning` alone."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask, split_pattern
from ntksap_export.pruning import ChannelPlan, Scorer, ScoringInputs, make_scorer, prune, prune_channels
from ntksap_export.pruning.scorers import check_filters, judges_filters
from ntksap_export.search.job import Found, SearchJob


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """What was chosen of a dense network.

    Attributes:
        mask: of the dense network; removed channels are pruned weights.
        plan: the channels that stay, with `--pattern channel`; else None.
    """

    mask: Mask
    plan: ChannelPlan | None

    def applied(self, network: nn.Module) -> nn.Module:
        """A copy of the dense `network` without what went."""
        if self.plan is not None:
            return self.plan.apply(network)
        masked = copy.deepcopy(network)
        self.mask.apply_(masked)
        return masked

    def found(self, network: nn.Module, log: dict[str, Any], start_epoch: int = 0) -> Found:
        """The search's answer, with the weights of the dense `network` to start from."""
        slim = network if self.plan is None else self.plan.apply(network)
        weights = {name: value.detach().cpu().clone() for name, value in slim.state_dict().items()}
        mask = self.mask if self.plan is None else Mask.dense(slim)
        return Found(mask.to("cpu"), self.plan, weights, start_epoch, log)


class Judging:
    """Scorers that let another one judge, of a copy of the model that they have trained: what is the same in all.

    Attributes:
        scorer: the other one.
    """

    scorer: Scorer
    default_rounds: int = 1
    revives: bool = False

    @property
    def side(self) -> str:
        """Whether whole filters are judged; see `Scorer`."""
        return "out" if judges_filters(self.scorer) else "both"

    def check(self, model: nn.Module, shape: tuple[int, int, int], names: Iterable[str]) -> None:
        """Refuse layers whose filters the other one cannot judge; see `Scorer`."""
        check_filters(self.scorer, model, shape, names)


def choose(
    job: SearchJob,
    scorer: Scorer,
    inputs: ScoringInputs | None = None,
    *,
    rounds: int | None = None,
    round_share: float | None = None,
) -> Choice:
    """Meet the job's budget on its dense model, by its pattern and rules.

    Args:
        job: of the search.
        scorer: may train copies of the model before it scores.
        inputs: what the scorer may look at; None for those that look at weights alone.
        rounds: as `prune` has it.
        round_share: as `prune` has it.

    Raises:
        ConfigError: a budget that cannot be met.
    """
    channels, pattern = split_pattern(job.pattern)
    inputs = ScoringInputs(job.shape, seed=job.seed) if inputs is None else inputs
    if not channels:
        mask = prune(
            job.model,
            scorer,
            inputs,
            job.budget,
            pattern=pattern,
            scope=job.scope,
            rounds=rounds,
            round_share=round_share,
            keep_dense=job.keep_dense,
            min_layer_density=job.min_layer_density,
            progress=job.progress,
        )
        return Choice(mask, None)
    if job.budget is None:
        raise ConfigError("--pattern channel has no share of its own; give --sparsity, --params or --flops")
    plan = prune_channels(
        job.model,
        scorer,
        inputs,
        job.budget,
        scope=job.scope,
        rounds=rounds,
        round_share=round_share,
        keep_dense=job.keep_dense,
        round_to=job.round_to,
        min_layer_density=job.min_layer_density,
        progress=job.progress,
    )
    return Choice(plan.mask(job.model), plan)


def criterion(job: SearchJob) -> Scorer:
    """L1: of single weights their magnitude, of channels the norm of their filters."""
    return make_scorer("l1" if split_pattern(job.pattern)[0] else "magnitude")


def device_of(job: SearchJob) -> torch.device:
    """Where the search computes."""
    return next(job.model.parameters()).device
