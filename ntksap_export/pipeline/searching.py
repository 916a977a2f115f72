"""The mask of a run, found as its method finds it: scored, or by a search that trains."""

from __future__ import annotations

import time
from pathlib import Path

from ntksap_export.masks import split_pattern
from ntksap_export.pipeline.choice import Choice
from ntksap_export.pipeline.choose import budget_of, choose_mask, scorer_of, scoring_inputs
from ntksap_export.pipeline.context import Context
from ntksap_export.pipeline.stopping import sigterm_noted
from ntksap_export.pipeline.training import open_loaders
from ntksap_export.pruning import left_whole, resolve_layers, shuffled
from ntksap_export.search import SearchJob, run_search, search_of
from ntksap_export.training import train_config


def find_mask(context: Context, latency_table: Path | None = None) -> Choice:
    """The mask of a run's method, pattern, budget and control.

    A search's trainings are saved in the run's directory: called again after a kill, it goes on.

    Args:
        context: of the run.
        latency_table: as `choose_mask` has it.

    Raises:
        The errors of `choose_mask`.
        TrainingError: of a search's trainings.
        Preempted: SIGTERM during one; what was reached is saved.
    """
    name = search_of(context.config.method, context.config.steps)
    return choose_mask(context, latency_table) if name is None else _search(context, name)


def _search(context: Context, name: str) -> Choice:
    config, start = context.config, time.perf_counter()
    _, pattern = split_pattern(config.pattern)
    model = context.build_dense()
    left = {} if pattern is None else left_whole(model, pattern, resolve_layers(model, config.keep_dense))
    with sigterm_noted() as stop:
        job = SearchJob(
            model=model.to(context.device),
            shape=context.shape,
            loaders=lambda: open_loaders(context),
            train=train_config(config),
            states=context.run.search_states,
            budget=budget_of(config),
            **{key: getattr(config, key) for key in _SETTINGS},
            scorer=scorer_of(config) if name == "steps" else None,
            inputs=(lambda: scoring_inputs(context)) if name == "steps" else None,
            progress=context.progress,
            stop=stop,
        )
        found = run_search(name, job)
    mask = shuffled(found.mask, config.seed, pattern) if config.control == "shuffle" else found.mask
    told = {"start_epoch": found.start_epoch, **found.log}
    # Of a search that was taken up again, the trainings before count too.
    seconds = max(time.perf_counter() - start, float(found.log["seconds"]))
    return Choice(mask, found.plan, seconds, left, weights=found.weights, search=told)


_SETTINGS = (
    "pattern", "scope", "keep_dense", "round_to", "min_layer_density", "rounds", "steps", "step_epochs",
    "search_epochs", "rewind_epoch", "round_share", "reg_delta", "reg_every", "reg_limit", "decorrelation", "seed",
)  # fmt: skip
