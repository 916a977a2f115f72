"""What the prune stage chose, however it was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ntksap_export.masks import Mask
from ntksap_export.pruning import ChannelPlan
from ntksap_export.pruning.latency_goal import Reached


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen.

    Attributes:
        mask: of the network that is trained, on the CPU, the control applied.
        plan: the channels that were removed first, or None; `mask` is of the network that it leaves.
        seconds: that choosing took.
        left: layer -> why the pattern leaves it whole.
        latency: how a latency was met, or None.
        weights: what training starts from, by name, where the mask was found by training; None is the initialization.
        search: how such a mask was found, as mask.json has it, or None.
    """

    mask: Mask
    plan: ChannelPlan | None
    seconds: float
    left: dict[str, str]
    latency: Reached | None = None
    weights: dict[str, torch.Tensor] | None = None
    search: dict[str, Any] | None = None

    def on_dense(self, model: nn.Module) -> Mask:
        """The mask in the coordinates of the dense `model`: removed channels are pruned weights there."""
        return self.mask if self.plan is None else lift(self.mask, self.plan.mask(model))


def lift(mask: Mask, channels: Mask) -> Mask:
    """A slim network's mask in the coordinates of the dense one, of which `channels` keeps whole rows and columns."""
    lifted = {}
    for name, kept in channels.items():
        lifted[name] = torch.zeros_like(kept)
        lifted[name][kept] = mask[name].flatten().to(kept.device)  # both in row-major order
    return Mask(lifted)
