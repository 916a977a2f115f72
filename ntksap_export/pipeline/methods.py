"""What a run's method is: a scorer, or a search that trains to find its mask."""

from __future__ import annotations

import difflib

from ntksap_export.config import RunConfig
from ntksap_export.errors import ConfigError
from ntksap_export.masks import split_pattern
from ntksap_export.pruning import SCORERS, Limits, check_pattern
from ntksap_export.search import SEARCHES, check_search, search_of


def check_name(method: str) -> None:
    """Refuse a method that is in neither table.

    Raises:
        ConfigError: near names are suggested.
    """
    names = (*SCORERS, *SEARCHES)
    if method not in names:
        near = difflib.get_close_matches(method, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(names)}"
        raise ConfigError(f"unknown method '{method}'; {hint}")


def check_method(config: RunConfig) -> None:
    """Refuse what a run's method cannot do; before anything is opened.

    Raises:
        ConfigError: an unknown method; a pattern, budget or setting that its search does not take.
    """
    check_name(config.method)
    split_pattern(config.pattern)  # an unknown one is refused here
    name = search_of(config.method, config.steps)
    check_pattern(config.method, config.pattern)
    if name is None:
        return
    check_search(name, config.pattern, config.latency is not None)
    if config.rescale_init:
        raise ConfigError(
            f"--rescale-init rescales drawn weights; {called(config)} hands on trained ones, leave it away"
        )
    if config.epochs == 0 and config.search_epochs is None and name != "steps":
        raise ConfigError(f"--epochs 0 leaves {called(config)} nothing to train with; give --search-epochs")
    if name == "lottery":
        _check_rewinding(config)


def _check_rewinding(config: RunConfig) -> None:
    """Refuse an epoch to go back to that leaves a training, the search's or the run's, nothing to do."""
    for flag, epochs in (("--search-epochs", config.search_epochs), ("--epochs", config.epochs)):
        if epochs and config.rewind_epoch >= epochs:  # `--epochs 0` asks for the ticket as it is
            raise ConfigError(
                f"--rewind-epoch {config.rewind_epoch} is not before the end of {flag} {epochs}: "
                "the ticket would not be trained; lower it, or raise the epochs"
            )


def schedule_of(config: RunConfig, limits: Limits) -> tuple[tuple[int | None, int | None, float], ...]:
    """What the rounds of a complete configuration leave, as `Limits.schedule` has it.

    Args:
        config: complete, that is, with `rounds`.
        limits: where they end.
    """
    assert config.rounds is not None
    name = search_of(config.method, config.steps)
    if name == "lottery":
        return limits.schedule_removing(config.round_share)
    return limits.schedule(config.rounds if name != "steps" else config.steps * -(-config.rounds // config.steps))


def epochs_to_find(config: RunConfig, limits: Limits) -> int:
    """How many epochs the prune stage trains for, in all.

    Args:
        config: complete.
        limits: where its rounds end.
    """
    name = search_of(config.method, config.steps)
    if name is None:
        return 0
    if name == "steps":
        return (config.steps - 1) * config.step_epochs
    assert config.search_epochs is not None
    rounds = len(schedule_of(config, limits)) if name == "lottery" else 1
    return rounds * config.search_epochs - (rounds - 1) * config.rewind_epoch


def called(config: RunConfig) -> str:
    """What a search is called on the command line."""
    return f"--method {config.method}" if config.method in SEARCHES else f"--steps {config.steps}"


def prunes_with_data(config: RunConfig) -> bool:
    """Whether the prune stage opens the data: for scores, or to train."""
    return search_of(config.method, config.steps) is not None or SCORERS[config.method].needs_data
