"""Methods, one file each. A new method is one file and one line of `SCORERS`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
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
    """What makes a score for each weight."""

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


__all__ = ["SCORERS", "Scorer", "Scores", "make_scorer"]
