"""All that a function could change about a model and about random numbers, to compare before with after."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import nn


def everything_of(model: nn.Module) -> dict[str, Any]:
    """The model's tensors (which they are, what was written to them, what they hold), gradients, modes and hooks, and
    the state of every generator of random numbers.
    """
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    modules = dict(model.named_modules())
    return {
        "which": {name: id(tensor) for name, tensor in tensors.items()},
        "versions": {name: tensor._version for name, tensor in tensors.items()},
        "values": {name: bytes_of(tensor) for name, tensor in model.state_dict().items()},
        "gradients": {name: bytes_of(tensor.grad) for name, tensor in model.named_parameters()},
        "wanted": {name: tensor.requires_grad for name, tensor in model.named_parameters()},
        "modes": {name: module.training for name, module in modules.items()},
        "hooks": [name for name, module in modules.items() if module._forward_hooks or module._forward_pre_hooks],
        "random": (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()),
    }


def bytes_of(tensor: torch.Tensor | None) -> bytes | None:
    return None if tensor is None else tensor.detach().cpu().numpy().tobytes()
