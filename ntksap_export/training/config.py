"""How to train: one frozen record."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ntksap_export.config import RunConfig


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Settings of a training.

    Attributes:
        epochs: passes over the training images; with 0 the network is judged as it is.
        optimizer: `sgd` or `adamw`.
        lr: peak learning rate.
        momentum: of SGD, where `nesterov` chooses the look-ahead form; AdamW's first beta (the second is 0.999).
        weight_decay: L2 on all parameters, with AdamW decoupled; without `decay_norms` not on norms and biases.
        schedule: after the warm-up: `cosine` to zero, `step` (times `gamma` at each milestone), `linear` to zero, or
            `constant`.
        milestones: shares of the epochs, in (0, 1), for `step`.
        gamma: factor of each step, in (0, 1].
        warmup_epochs: linear from 0 to `lr` over this many epochs.
        clip_norm: the largest norm that the gradient of all kept weights may have; None leaves it as it is.
        label_smoothing: in [0, 1).
        mixup, cutmix: alpha of the Beta(alpha, alpha) that shares are drawn from; 0 is off, both take turns by chance.
        ema: decay per step of the averaged weights, in [0, 1); 0 is off.
        precision: `fp32`, `bf16` or `fp16` (autocast; fp16 with a scaled loss), or `auto`: bf16 where the device
            multiplies it fast.
        accumulate: micro-batches of a step; BatchNorm takes each for itself.
        sync_bn: of several processes: whether BatchNorm takes its statistics over all of them.
        compile: a mode of `torch.compile`, `default`, or `none`.
        seed: what mixup, CutMix and dropout draw from.
    """

    epochs: int
    optimizer: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    decay_norms: bool = True
    schedule: str = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = 0.1
    warmup_epochs: float = 0.5
    clip_norm: float | None = None
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    ema: float = 0.0
    precision: str = "auto"
    accumulate: int = 1
    sync_bn: bool = True
    compile: str = "none"
    seed: int = 0


def train_config(config: RunConfig) -> TrainConfig:
    """The settings of a run that its training needs.

    Args:
        config: complete, that is, with `epochs` and `lr`.
    """
    assert config.epochs is not None
    assert config.lr is not None
    return TrainConfig(**{field.name: getattr(config, field.name) for field in fields(TrainConfig)})
