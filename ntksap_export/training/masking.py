"""Keeping pruned weights at exactly zero, whatever the optimizer does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from ntksap_export.masks import Mask


def keep_pruned(optimizer: torch.optim.Optimizer, model: nn.Module, mask: Mask) -> RemovableHandle:
    """From now on every `optimizer.step()` leaves pruned weights and their optimizer state exactly zero.

    Weights and state are zeroed once; before each step the gradients of pruned weights are zeroed in one fused call.
    A zero weight with a zero gradient and a zero state stays zero under momentum, weight decay and Adam alike, so
    that nothing need be repaired after the step. Works with any torch optimizer whose update of a weight depends
    only on that weight's own value, gradient and state.

    Args:
        optimizer: holds `model`'s parameters.
        model: its pruned weights are zeroed in place.
        mask: names and shapes of `model`.

    Returns:
        A handle; `handle.remove()` lets the weights go.

    Raises:
        CheckpointError: the mask does not fit the model.
    """
    mask.apply_(model)
    named = dict(model.named_parameters())
    factors = {named[name]: kept.to(named[name]) for name, kept in mask.items() if not bool(kept.all())}
    for parameter, factor in factors.items():
        _zero_state_(optimizer.state.get(parameter, {}), factor)

    def mask_gradients(*_: object) -> None:
        pairs = [(p.grad, factor) for p, factor in factors.items() if p.grad is not None]
        if pairs:
            gradients, kept = zip(*pairs, strict=True)
            torch._foreach_mul_(list(gradients), list(kept))

    return optimizer.register_step_pre_hook(mask_gradients)


@torch.no_grad()
def _zero_state_(state: Mapping[str, Any], factor: torch.Tensor) -> None:
    for value in state.values():
        if isinstance(value, torch.Tensor) and value.shape == factor.shape:
            value.mul_(factor)
