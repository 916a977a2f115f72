"""What the tests of the training loop share."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from ntksap_export.data import Loaders, loaders
from ntksap_export.training import TrainConfig

from ..support.nets import TinyNet, tiny_net


def digits(batch_size: int = 361) -> Loaders:
    """1,442 training digits of 8 x 8 pixels: four steps an epoch. Loaders remember their epoch, so a new one each."""
    return loaders("digits", batch_size=batch_size, image_size=8)


def config(epochs: int = 2, **changes: Any) -> TrainConfig:
    return TrainConfig(**{"epochs": epochs, "lr": 0.1, "precision": "fp32", **changes})


def net() -> TinyNet:
    return tiny_net(seed=1, classes=10)


@cache
def images() -> torch.Tensor:
    """A batch of digits."""
    return next(iter(digits().val))[0]
