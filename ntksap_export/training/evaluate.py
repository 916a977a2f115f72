"""How good a network is on held-out images."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional

from ntksap_export.training.parallel import summed
from ntksap_export.training.precision import autocast_type


@torch.no_grad()
def evaluate(
    model: nn.Module, batches: Iterable[tuple[torch.Tensor, torch.Tensor]], precision: str = "fp32"
) -> tuple[float, float]:
    """Mean cross-entropy and accuracy (share of right answers); the model is left in eval mode.

    Args:
        model: on the device of the batches.
        batches: images (N, C, H, W) and labels (N,); of several processes each has its own, and all get the mean over
            all.
        precision: fp32, bf16 or fp16.
    """
    model.eval()
    device = next(model.parameters()).device
    sums = torch.zeros(3, dtype=torch.float64, device=device)  # loss, right answers, images
    for images, labels in batches:
        with torch.autocast(device.type, autocast_type(precision), enabled=precision != "fp32"):
            logits = model(images)
        logits = logits.float()
        right = (logits.argmax(1) == labels).sum().double()
        loss = functional.cross_entropy(logits, labels, reduction="sum").double()
        sums += torch.stack((loss, right, torch.full_like(loss, len(labels))))
    loss_sum, right_sum, seen = summed(sums).tolist()
    return loss_sum / max(seen, 1), right_sum / max(seen, 1)
