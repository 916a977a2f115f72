"""FPGM: keep the filters that the others of their layer could not stand in for (He et al., CVPR 2019).

    score of filter i = sum over the filters j of its layer of || w_i - w_j ||_2

A filter near the geometric median of its layer has the least sum: what it computes, the others nearly compute. Needs no
data. For trained networks and whole channels: `--pattern channel`; with `--scope layer` as in the paper, since the sums
grow with the number of filters and with the scale of a layer.

Where it differs from the reference code: filters that an earlier round removed are no neighbours any more (there they
stay in the layer as zeros); the authors' mix with a share of filters pruned by norm is not built.
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
class Fpgm:
    """The scorer."""

    default_rounds: int = 1
    revives: bool = False
    side: str = "out"

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Tensors:  # noqa: ARG002
        """Score every weight of `mask` with its share of its filter's value; see `Scorer.score`."""
        return score_filters(model, mask, _distances)


def _distances(name: str, filters: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:  # noqa: ARG001
    alive = kept.any(1)
    between = torch.cdist(filters[alive], filters[alive])  # (filters, filters)
    between.fill_diagonal_(0.0)  # found by products of float64, a filter is 1e-8 away from itself
    sums = filters.new_zeros(len(filters))
    sums[alive] = between.sum(1)
    return sums
