"""Gradient clipping that counts only the weights that live."""

from __future__ import annotations

import torch
from torch import nn

from ntksap_export.training.masking import PrunedHandle


def clip_norm_(model: nn.Module, pruned: PrunedHandle, limit: float) -> torch.Tensor:
    """Scale all gradients down so that their common L2 norm is at most `limit`; those of pruned weights become zero.

    Call it between `backward` and `step`, after unscaling where there is a scaler. Nothing waits for a GPU.

    Args:
        model: its gradients are changed in place.
        pruned: what `keep_pruned` returned for it.
        limit: above 0.

    Returns:
        The norm before, a scalar tensor.
    """
    pruned.mask_gradients_()
    return torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
