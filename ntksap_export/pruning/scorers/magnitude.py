"""Magnitude: keep the largest weights.

    score = |w|

Needs no data. On a trained network the oldest criterion there is. At initialization, with Kaiming's standard deviation
of sqrt(2 / fan-in), it only says which layers keep how much: wide fan-in is pruned most.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ntksap_export.masks import Mask
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.pruning.scorers.gradients import Tensors, initial_weights


@dataclass(frozen=True, slots=True)
class Magnitude:
    """The scorer."""

    default_rounds: int = 1
    revives: bool = False

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Tensors:  # noqa: ARG002
        """Score every weight of `mask`; see `Scorer.score`."""
        return {name: weight.abs() * mask[name] for name, weight in initial_weights(model, mask).items()}
