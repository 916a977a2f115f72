"""What a search is given and what it finds; `run_search` is the way in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ntksap_export.progress import Progress, Silent
from ntksap_export.search.table import check_search

if TYPE_CHECKING:  # heavy, and needed by name only
    from pathlib import Path

    import torch
    from torch import nn

    from ntksap_export.data import Loaders
    from ntksap_export.masks import Mask
    from ntksap_export.pruning import Budget, ChannelPlan, Scorer, ScoringInputs
    from ntksap_export.training import TrainConfig


@dataclass(frozen=True, slots=True, eq=False)
class SearchJob:
    """All that a search needs. The settings are those of the run's configuration, by their names.

    Attributes:
        model: dense, with the weights that the search starts from, on its device; left untouched.
        shape: (C, H, W) of its input.
        loaders: opens the data, of several processes this one's part; called once, and closed at the end.
        train: how the run trains; a search changes what it must (epochs; greg and tpp: 1e-3 as a constant rate).
        states: a folder that is the search's own and outlives a kill; the caller deletes it once the result is stored.
        budget: what the mask must meet; None where the pattern's own is meant.
        pattern: as `--pattern` has it.
        scope: `global` or `layer`.
        keep_dense: layers that stay whole.
        round_to: of channels.
        min_layer_density: share of itself that each layer keeps at least.
        rounds: score-and-mask rounds of `steps`, spread over its steps; None takes the scorer's own number.
        steps: of `steps`: removals, with training between them.
        step_epochs: of `steps`: epochs between two removals.
        search_epochs: lottery: of each round's whole schedule; greg, tpp, edge-popup: in all. None: `train.epochs`.
        rewind_epoch: lottery: the epoch whose weights each round goes back to.
        round_share: lottery: the share of what is left that a round removes.
        reg_delta: greg, tpp: what the L2 factor grows by.
        reg_every: greg, tpp: optimizer steps between two growths; None: so that the limit comes after half of them.
        reg_limit: greg, tpp: the largest L2 factor.
        decorrelation: tpp: the weight of the decorrelation, times the L2 factor.
        seed: of what a search draws (edge-popup's scores).
        scorer: of `steps`.
        inputs: of `steps`: opens what the scorer may look at; called once.
        progress: where the work is shown.
        stop: asked during training; once it says yes, the state is saved and the search ends.
    """

    model: nn.Module
    shape: tuple[int, int, int]
    loaders: Callable[[], Loaders]
    train: TrainConfig
    states: Path
    budget: Budget | None
    pattern: str = "unstructured"
    scope: str = "global"
    keep_dense: tuple[str, ...] = ()
    round_to: int = 8
    min_layer_density: float = 0.0
    rounds: int | None = None
    steps: int = 1
    step_epochs: int = 1
    search_epochs: int | None = None
    rewind_epoch: int = 0
    round_share: float = 0.2
    reg_delta: float = 1e-4
    reg_every: int | None = None
    reg_limit: float = 1.0
    decorrelation: float = 1000.0
    seed: int = 0
    scorer: Scorer | None = None
    inputs: Callable[[], ScoringInputs] | None = None
    progress: Progress = field(default_factory=Silent)
    stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a search found. Tensors are on the CPU.

    Attributes:
        mask: of the network that is trained then (the one that `plan` leaves, where there is a plan).
        plan: the channels that stay, with `--pattern channel`; else None.
        weights: state dict of that network, which training starts from: all its values as the search left them, also
            those that `mask` prunes (training sets these to zero; a shuffled mask needs them).
        start_epoch: epochs of the run's schedule that these weights have behind them: `train(start_epoch=)`.
        log: JSON values: `method`, `rounds` (one row for each training on the way: `round` from 0, `name`, `density`,
            `epochs`, `train_loss`, `train_accuracy`, `val_loss`, `val_accuracy`, `seconds`), `epochs` and `seconds` in
            all, and what a method adds: lottery `rewind_epoch`; greg, tpp `density`, `reg_end` (the L2 factor at the
            end) and `removed_accuracy` (after removal, before any training); steps `steps`, `rounds_per_step`.
    """

    mask: Mask
    plan: ChannelPlan | None
    weights: dict[str, torch.Tensor]
    start_epoch: int
    log: dict[str, Any]


def run_search(name: str, job: SearchJob) -> Found:
    """Search a mask by training. Called again with the same job after it was stopped or killed, it goes on.

    Within a process group every process calls it, and all find the same.

    Args:
        name: of `SEARCHES`, or `steps`: `job.scorer` with training between its rounds.
        job: what to do.

    Raises:
        ConfigError: a pattern, budget or number of epochs that this search cannot work with.
        ScoreError, TrainingError: as pruning and training raise them.
        Preempted: `job.stop` said yes; what was reached is saved.
        RunDirectoryError: what was saved is broken, or belongs to another job.
    """
    info = check_search(name, job.pattern, job.budget is not None and job.budget.latency is not None)
    module, function = info.target.split(":")
    found: Found = getattr(import_module(module), function)(job)
    return found
