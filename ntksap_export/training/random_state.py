"""What dropout and the like draw from: torch's own generators, kept and put back."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import nn


def own_random_state(model: nn.Module) -> AbstractContextManager[None]:
    """Around what draws: torch's own state is afterwards as it was."""
    device = next(model.parameters()).device
    return torch.random.fork_rng([device.index or 0] if device.type == "cuda" else [], device_type="cuda")


def random_state(device: torch.device) -> torch.Tensor:
    """Of the generator that layers on `device` draw from."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def set_random_state(device: torch.device, state: torch.Tensor) -> None:
    """Put back what `random_state` gave."""
    torch.cuda.set_rng_state(state, device) if device.type == "cuda" else torch.set_rng_state(state)
