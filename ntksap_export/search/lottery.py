"""Lottery tickets with rewinding: what a trained network can do without, found by training it again and again.

    W_k      <- the weights after epoch k of training the dense network (k = 0: the initialization)
    repeat:     train to the end; remove a share of the weights that are left, the smallest |w|; go back to W_k

Frankle & Carbin (ICLR 2019), with rewinding to an early epoch by Frankle, Dziugaite, Roy & Carbin (ICML 2020; code:
open_lth). The share is counted over all layers (`--scope global`) and rounded down, where open_lth rounds up; the last
round removes what the budget asks, exactly. A round's trainings from W_k have no momentum yet, as open_lth's. With
`--pattern channel` whole filters go by their L1 norm.

The run's own training is that of the ticket: from W_k, with epoch k + 1. W_k has BatchNorm's statistics of its time.
Cost: a whole training for every round (11 for 90 % by a fifth each): the upper reference, not a method for haste.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from torch import nn

from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask
from ntksap_export.pruning import Scorer, Scores, ScoringInputs
from ntksap_export.search.choice import Judging, choose, criterion
from ntksap_export.search.job import Found, SearchJob
from ntksap_export.search.trainings import Trainings, search_config, trainings
from ntksap_export.training import EpochRow, TrainConfig

_EARLY = "early"


def lottery(job: SearchJob) -> Found:
    """Find a ticket; see `run_search`.

    Raises:
        ConfigError: `rewind_epoch` is not before the end of training.
    """
    config = search_config(job)
    if job.rewind_epoch >= config.epochs:
        raise ConfigError(
            f"--rewind-epoch {job.rewind_epoch} is not before the end of {config.epochs} epochs; "
            "lower it, or raise --search-epochs or --epochs"
        )
    with trainings(job) as work:
        scorer = _Trained(job, work, config, criterion(job))
        choice = choose(job, scorer, round_share=job.round_share)
        ticket = copy.deepcopy(job.model)
        ticket.load_state_dict(scorer.early)
    return choice.found(ticket, work.log("lottery", rewind_epoch=job.rewind_epoch), job.rewind_epoch)


@dataclass(eq=False)
class _Trained(Judging):
    """Scores a network by its weights after training: the first time dense, then from W_k under each round's mask."""

    job: SearchJob
    work: Trainings
    config: TrainConfig
    scorer: Scorer
    early: dict[str, torch.Tensor] = field(default_factory=dict)

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Scores:
        """Train a copy, and score that; see `Scorer.score`."""
        network = copy.deepcopy(model)
        label = f"round-{round_index:03d}"
        if round_index:
            network.load_state_dict(self.early)
            self.work.run(label, network, mask, self.config, start_epoch=self.job.rewind_epoch)
        else:
            self._train_dense(label, network, mask)
        return self.scorer.score(network, mask, inputs, round_index)

    def _train_dense(self, label: str, network: nn.Module, mask: Mask) -> None:
        def note(row: EpochRow) -> None:
            # Of a resumed training rows come again, when the weights are of a later epoch; but then W_k is stored.
            if row.epoch == self.job.rewind_epoch and not self.early:
                self.early = self.work.recall(_EARLY) or self.work.remember(_EARLY, _state(network))

        if self.job.rewind_epoch == 0:
            self.early = _state(network)
        self.work.run(label, network, mask, self.config, on_epoch=note)
        self.early = self.early or self.work.recall(_EARLY) or {}


def _state(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
