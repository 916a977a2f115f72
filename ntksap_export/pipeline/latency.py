"""`--budget latency=...` of a run: the meter that its channels are chosen with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ntksap_export.config import RunConfig
from ntksap_export.errors import ConfigError, UnavailableError
from ntksap_export.graph import Graph, optimize, select_passes
from ntksap_export.graph import export as export_graph
from ntksap_export.latency_budget import LatencyBudget
from ntksap_export.pipeline.context import Context
from ntksap_export.processes import world_size
from ntksap_export.profiling.latency_table import MachineMeter
from ntksap_export.profiling.timings import Timings, this_machine
from ntksap_export.pruning import Budget, ChannelPlan
from ntksap_export.pruning.latency_goal import LatencyGoal, Reached
from ntksap_export.runtime import backends

LATENCY_TABLE = "latency_table.json"


def check_latency(config: RunConfig) -> None:
    """Refuse early what could not be measured.

    Raises:
        ConfigError: more threads than CPUs, several processes, or a table that cannot be read.
        UnavailableError: the backend or the device is not here.
    """
    asked = config.latency
    if asked is None:
        return
    if world_size() > 1:
        raise ConfigError(
            f"--budget latency is measured in one process, got {world_size()}; run `ntksap prune` without torchrun, "
            "then `ntksap train` with it"
        )
    if config.latency_table is not None:
        Timings.load(Path(config.latency_table))
    if reason := backends.unavailable(asked.backend, asked.device):
        raise UnavailableError(f"--budget: {asked.backend} on {asked.device}: {reason}")
    cpus = len(os.sched_getaffinity(0))
    if asked.threads is not None and asked.threads > cpus:
        raise ConfigError(f"--budget asks for threads={asked.threads}, but this process may use {cpus} CPUs")


def latency_goal(context: Context, model: nn.Module, budget: Budget, file: Path | None) -> LatencyGoal:
    """What the channels of the dense `model` have to meet; nothing is timed yet.

    Args:
        context: of the run.
        model: at its initialization.
        budget: of the channels, with a latency.
        file: where the table is written, and read if a run that was interrupted left one; None does neither.
    """
    assert budget.latency is not None
    config, passes = context.config, select_passes(context.config.passes)
    model = model.to("cpu").eval()
    images = torch.zeros(1, *context.shape)

    def export(plan: ChannelPlan) -> Graph:
        return optimize(export_graph(plan.apply(model), images, opset=config.opset), passes)[0]

    here = this_machine(budget.latency.settings())
    timings = _known(here, file, config.latency_table)
    foreign = timings.machine != here.machine
    alone = (budget.sparsity, budget.flops, budget.params) == (None, None, None)
    meter = MachineMeter(model, context.shape, export, timings, file, foreign, context.progress)
    return LatencyGoal(budget.latency, meter, alone)


def latency_entry(reached: Reached | None, asked: LatencyBudget | None) -> dict[str, Any]:
    """For mask.json: what was asked, promised and measured, and under what; nothing without a latency."""
    if reached is None or asked is None:
        return {}
    return {"latency": {**reached.to_json(), **asked.settings()}}


def _known(here: Timings, file: Path | None, given: str | None) -> Timings:
    """Timings to begin with: those that were given, else what an interrupted run left here, else none.

    Raises:
        ConfigError: those that were given are of another way to run.
    """
    if given is not None:
        timings = Timings.load(Path(given))
        if timings.settings != here.settings:
            raise ConfigError(
                f"latency table '{given}' was made with {_words(timings)}, --budget asks for {_words(here)}; "
                "name another, or leave --latency-table away"
            )
        return timings
    if file is not None and file.is_file():
        try:
            left = Timings.load(file)
        except ConfigError:
            return here
        return left if left.alike(here) else here
    return here


def _words(timings: Timings) -> str:
    return ", ".join(f"{key}={value}" for key, value in timings.settings.items())
