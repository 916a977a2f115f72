"""A copy to look at: the model as it is, with BatchNorm statistics that mean something.

At initialization the running statistics are 0 and 1, whatever the network does; one pass over images puts there what
each BatchNorm measures. A trained network has its own, which stay.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ntksap_export.errors import ConfigError
from ntksap_export.quoting import first_line


def settled(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """The model in eval mode, its running statistics those of `images` (the variance unbiased, as in training).

    Only BatchNorm is in train mode in that pass, so that no dropout disturbs it; nothing is drawn at random.

    Args:
        model: left untouched.
        images: (N, C, H, W), 2 or more where the model has BatchNorm; moved to the model's device and type.

    Returns:
        A deep copy.

    Raises:
        ConfigError: the model cannot be copied, or cannot take the images.
    """
    copied = eval_copy(model)
    norms = [module for module in copied.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not norms:
        return copied
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    like = next(copied.parameters(), images)
    try:
        with torch.no_grad():
            copied(images.to(like.device, like.dtype))
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"BatchNorm's statistics cannot be taken from images of shape {tuple(images.shape)}: {first_line(error)}; "
            "give more or larger images"
        ) from error
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return copied.eval()


def eval_copy(model: nn.Module) -> nn.Module:
    """A deep copy in eval mode; the model is left untouched.

    Raises:
        ConfigError: it cannot be copied.
    """
    try:
        return copy.deepcopy(model).eval()
    except Exception as error:  # a model's own code may fail in any way
        raise ConfigError(f"{type(model).__name__} cannot be copied to be looked at: {first_line(error)}") from error
