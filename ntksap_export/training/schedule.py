"""The learning rate at every step."""

from __future__ import annotations

import math

from ntksap_export.training.config import TrainConfig


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """The rate of optimizer step `step` (from 0): linear warm-up, then as `config.schedule` says.

    Cosine and line run from the end of the warm-up to the end of training and reach almost zero in the last step; with
    a long warm-up `linear` is one triangular cycle (Smith & Topin 2019). Milestones of `step` count from the start.
    """
    epoch = (step + 1) / steps_per_epoch
    if epoch <= config.warmup_epochs:
        return config.lr * epoch / config.warmup_epochs
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "step":
        passed = sum(step >= at * config.epochs * steps_per_epoch for at in config.milestones)
        return float(config.lr * config.gamma**passed)
    total = config.epochs * steps_per_epoch
    start = min(config.warmup_epochs * steps_per_epoch, total - 1)
    share = min(1.0, max(0.0, (step - start) / (total - start)))
    if config.schedule == "linear":
        return config.lr * (1.0 - share)
    return config.lr * 0.5 * (1.0 + math.cos(math.pi * share))
