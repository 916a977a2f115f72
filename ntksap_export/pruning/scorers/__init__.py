"""Methods, one file each. A new method is one file and one line of `SCORERS`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, Protocol, cast

import torch
from torch import nn

from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.pruning.scorers.table import SCORERS

Scores = Mapping[str, torch.Tensor]


class Scorer(Protocol):
    """What makes a score for each weight.

    One that judges whole filters says so by an attribute `side` of `out`, and may have a method
    `check(model, shape, names)` that refuses layers which it cannot judge; see `scorers/filters.py`.
    """

    @property
    def default_rounds(self) -> int:
        """Rounds used when nobody says otherwise."""

    @property
    def revives(self) -> bool:
        """Whether a round chooses among all weights, so that masks are not nested."""

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Scores:
        """Score every weight the mask names; higher = keep.

        Parameters, buffers, modes and random states of and around `model` are left as they were found.
        """


def judges_filters(scorer: Scorer) -> bool:
    """Whether only the sums of the scores over whole filters mean something."""
    return getattr(scorer, "side", "both") == "out"


def check_filters(scorer: Scorer, model: nn.Module, shape: tuple[int, int, int], names: Iterable[str]) -> None:
    """Let a scorer refuse layers whose filters it cannot judge.

    Args:
        scorer: of any kind; most can judge all.
        model: left untouched.
        shape: (C, H, W) of its input.
        names: parameter names of the weights whose filters may go.

    Raises:
        ConfigError: names the layers, and what to do.
    """
    check = getattr(scorer, "check", None)
    if check is not None:
        check(model, shape, names)


def check_pattern(method: str, pattern: str) -> None:
    """Refuse a method that judges whole filters where single weights, or blocks of them, are chosen.

    Args:
        method: a name; of no scorer is nothing known, and nothing refused.
        pattern: as `--pattern` has it.

    Raises:
        ConfigError: names what to use instead.
    """
    if method in SCORERS and SCORERS[method].filters and pattern != "channel":
        others = ", ".join(name for name, entry in SCORERS.items() if entry.kind == "trained" and not entry.filters)
        raise ConfigError(
            f"method {method} judges whole filters, but --pattern {pattern} chooses among single weights; "
            f"use --pattern channel, or --method magnitude, {others}"
        )


def make_scorer(name: str, **options: Any) -> Scorer:
    """The scorer of that name with those of `options` that it has.

    Raises:
        ConfigError: there is no such method; near names are suggested.
    """
    if name not in SCORERS:
        near = difflib.get_close_matches(name, SCORERS, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(SCORERS)}"
        raise ConfigError(f"unknown method '{name}'; {hint}")
    entry = SCORERS[name]
    module, factory = entry.target.split(":")
    own = {key: value for key, value in options.items() if key in entry.options}
    return cast("Scorer", getattr(import_module(module), factory)(**own))


__all__ = ["SCORERS", "Scorer", "Scores", "check_filters", "check_pattern", "judges_filters", "make_scorer"]
