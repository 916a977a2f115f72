"""L1: keep the filters of large weights (Li, Kadav, Durdanovic, Samet & Graf, ICLR 2017).

    score of filter i = mean of |w| over its weights

Needs no data. For trained networks and whole channels: `--pattern channel`. The isometry papers (Wang et al., arXiv
2105.05916; TPP, ICLR 2023) use it with the same share of every layer: `--scope layer`.

Where it differs from the paper: that sums, which ranks the filters of a layer alike; the mean can be compared between
layers too. A filter that lost input channels in an earlier round is judged by those that it still reads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ntksap_export.masks import Mask
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.pruning.scorers.filters import score_filters
from ntksap_export.pruning.scorers.gradients import Tensors


@dataclass(frozen=True, slots=True)
class L1:
    """The scorer."""

    default_rounds: int = 1
    revives: bool = False
    side: str = "out"

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Tensors:  # noqa: ARG002
        """Score every weight of `mask` with its share of its filter's value; see `Scorer.score`."""
        return score_filters(model, mask, _mean_size)


def _mean_size(name: str, filters: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:  # noqa: ARG001
    return filters.abs().sum(1) / kept.sum(1).clamp(min=1)
