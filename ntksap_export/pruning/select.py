"""From scores to a mask with an exact count."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch

from ntksap_export.errors import ConfigError, ScoreError
from ntksap_export.masks import Mask


def keep_best(scores: Mapping[str, torch.Tensor], mask: Mask, keep: int, keep_dense: Collection[str] = ()) -> Mask:
    """The mask that keeps exactly `keep` weights: the highest-scored of those that `mask` still keeps, globally.

    Ties are broken by a fixed pseudo-random order, so that equal scores (all zero, say) neither favour the first
    layers nor change from run to run.

    Args:
        scores: name -> tensor of the mask's shape; higher = keep.
        mask: what is alive now; nothing that it prunes comes back.
        keep: weights to keep, counted over all tensors of `mask`.
        keep_dense: names whose weights all stay, whatever they score; they count towards `keep`.

    Raises:
        ScoreError: a score is NaN or infinite; names the layer.
        ConfigError: the weights that stay dense already exceed `keep`.
    """
    for name in mask:
        if not bool(torch.isfinite(scores[name]).all()):
            raise ScoreError(
                f"the score of '{name}' has NaN or infinite values; try --precision fp32 or another --seed"
            )
    free = [name for name in mask if name not in keep_dense]
    fixed = sum(int(mask[name].sum()) for name in mask if name in keep_dense)
    if fixed > keep:
        raise ConfigError(
            f"--keep-dense keeps {fixed:,} weights, the budget allows {keep:,}; lower --sparsity or keep fewer"
        )
    if not free:
        return mask
    flat = torch.cat([scores[name].flatten() for name in free])
    alive = torch.cat([mask[name].flatten() for name in free])
    kept = _top(flat, alive, keep - fixed)
    chosen: dict[str, torch.Tensor] = {}
    offset = 0
    for name in mask:
        if name in keep_dense:
            chosen[name] = mask[name].clone()
            continue
        size = mask[name].numel()
        chosen[name] = kept[offset : offset + size].view(mask[name].shape)
        offset += size
    return Mask(chosen)


def _top(flat: torch.Tensor, alive: torch.Tensor, keep: int) -> torch.Tensor:
    """A bool tensor with exactly min(keep, alive) True, at the highest of `flat` where `alive`."""
    candidates = flat[alive]
    if keep >= candidates.numel():
        return alive.clone()
    if keep == 0:
        return torch.zeros_like(alive)
    # kthvalue counts from the smallest, from 1; it has no limit on the number of elements, unlike torch.quantile.
    threshold = torch.kthvalue(candidates, candidates.numel() - keep + 1).values
    kept = (flat > threshold) & alive
    missing = keep - int(kept.sum())
    tied = ((flat == threshold) & alive).nonzero().squeeze(1)
    order = torch.randperm(tied.numel(), generator=torch.Generator().manual_seed(0))
    kept[tied[order[:missing].to(tied.device)]] = True
    return kept
