"""From a `TrainConfig` to the optimizer that makes the steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ntksap_export.training.config import TrainConfig

_BETA2 = 0.999


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD or AdamW over all parameters of `model`, one fused kernel a step.

    Without `decay_norms` the parameters are in two groups, and that of the norms and biases has no weight decay.
    Every group's rate is `config.lr` until somebody sets it.

    Raises:
        ValueError: `config.optimizer` is neither `sgd` nor `adamw`.
    """
    groups: Iterable[Any] = model.parameters() if config.decay_norms else _groups(model, config.weight_decay)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(
            groups, lr=config.lr, betas=(config.momentum, _BETA2), weight_decay=config.weight_decay, fused=True
        )
    if config.optimizer != "sgd":
        raise ValueError(f"optimizer must be sgd or adamw; got '{config.optimizer}'")
    return torch.optim.SGD(
        groups,
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov and config.momentum > 0,
        weight_decay=config.weight_decay,
        fused=True,
    )


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weights with decay; norms and biases, which have one axis, without."""
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    rest = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": weights, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
