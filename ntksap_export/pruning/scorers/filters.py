"""What criteria that judge whole filters have in common: a filter's value in the form of scores of single weights.

`prune_channels` reads the scores of such a criterion (`side` is `out`) row by row: the sum of a row is its filter's
value, the columns of the layers that read it count for nothing, and a unit's score is the mean over the rows of its
group. Inside of a filter all weights score the same, so that no other pattern can be chosen by them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ntksap_export.masks import Mask
from ntksap_export.pruning.scorers.gradients import Tensors, initial_weights

# A filter per row, (out, weights of a filter), float64, and which of its weights are kept -> a value per filter, (out,)
Measure = Callable[[str, torch.Tensor, torch.Tensor], torch.Tensor]


def score_filters(model: nn.Module, mask: Mask, measure: Measure) -> Tensors:
    """Scores whose sum over a filter's kept weights is what `measure` says of it; pruned weights score 0.

    Args:
        model: left untouched.
        mask: the weights that count; the others are zero in what `measure` gets.
        measure: called with each weight's name, its filters (out, n) in float64 and their part of the mask (out, n).
    """
    scores = {}
    for name, weight in initial_weights(model, mask).items():
        kept = mask[name].flatten(1)
        values = measure(name, weight.flatten(1).double() * kept, kept)
        share = values / kept.sum(1).clamp(min=1)
        scores[name] = (share[:, None] * kept).view(weight.shape)
    return scores
