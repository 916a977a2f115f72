"""How to train: one frozen record."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Settings of SGD training.

    Attributes:
        epochs: passes over the training images.
        lr: peak learning rate.
        momentum: of SGD; `nesterov` chooses the look-ahead form.
        weight_decay: L2 on all parameters.
        schedule: `cosine` to zero, or `step` (x0.1 at each milestone).
        milestones: shares of the epochs, in (0, 1), for `step`.
        warmup_epochs: linear from 0 to `lr` over this many epochs.
        label_smoothing: in [0, 1).
        precision: `fp32`, `bf16` (autocast), or `auto`: bf16 where the device multiplies it fast.
    """

    epochs: int
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.75)
    warmup_epochs: float = 0.5
    label_smoothing: float = 0.0
    precision: str = "auto"
