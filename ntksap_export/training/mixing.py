"""Mixup and CutMix: batches of images that are two images at once, and the loss of their two labels.

Mixup (Zhang et al., ICLR 2018):   image = share * a + (1 - share) * b,   share ~ Beta(alpha, alpha)
CutMix (Yun et al., ICCV 2019):    image = a with a box of b, whose sides are sqrt(1 - share) of the image's and whose
                                   center is drawn evenly over the image; share = 1 - area of what lies inside / area
                                   of the image
Loss of both:                      share * loss(label of a) + (1 - share) * loss(label of b)

As in the papers' codes one share, and one box, serves a batch, and b is a permutation of a.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from ntksap_export.data.augment import generator
from ntksap_export.training.config import TrainConfig


@dataclass(frozen=True, slots=True, eq=False)
class MixedLabels:
    """Labels of mixed images: int64 (N,) each; `share` in [0, 1] is how much of an image is `first`'s."""

    first: torch.Tensor
    second: torch.Tensor
    share: float


Targets = torch.Tensor | MixedLabels


def mix(images: torch.Tensor, labels: torch.Tensor, config: TrainConfig, key: str) -> tuple[torch.Tensor, Targets]:
    """Mix a batch as `config.mixup` and `config.cutmix` say: either one, or where both are on, either by even chance.

    Args:
        images: (N, C, H, W), normalized; left as they are.
        labels: int64 (N,).
        config: alphas; where both are 0 the batch comes back as it is.
        key: all draws depend on it and on nothing else: name the seed, the epoch and the step.

    Returns:
        The images, and labels or `MixedLabels` for `loss_of`.
    """
    if not config.mixup and not config.cutmix:
        return images, labels
    random = generator(key)
    cut = bool(config.cutmix) and (not config.mixup or bool(torch.rand((), generator=random) < 0.5))
    share = _beta(config.cutmix if cut else config.mixup, random)
    partner = torch.randperm(len(images), generator=random).to(images.device, non_blocking=True)
    if not cut:
        return images.lerp(images[partner], 1.0 - share), MixedLabels(labels, labels[partner], share)
    height, width = images.shape[-2:]
    top, bottom, left, right = _box(height, width, share, random)
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
    inside = (bottom - top) * (right - left)
    return mixed, MixedLabels(labels, labels[partner], 1.0 - inside / (height * width))


def loss_of(logits: torch.Tensor, targets: Targets, smoothing: float = 0.0, reduction: str = "mean") -> torch.Tensor:
    """Cross-entropy of logits (N, classes) with labels or mixed labels.

    Args:
        logits: (N, classes).
        targets: from `mix`.
        smoothing: label smoothing, in [0, 1).
        reduction: `mean`, `sum` or `none`, as in torch.
    """
    if isinstance(targets, torch.Tensor):
        return functional.cross_entropy(logits, targets, label_smoothing=smoothing, reduction=reduction)
    first = functional.cross_entropy(logits, targets.first, label_smoothing=smoothing, reduction=reduction)
    second = functional.cross_entropy(logits, targets.second, label_smoothing=smoothing, reduction=reduction)
    return targets.share * first + (1.0 - targets.share) * second


def right_of(logits: torch.Tensor, targets: Targets) -> torch.Tensor:
    """How many answers are right, a scalar tensor; an answer that is one of two labels counts that one's share."""
    answers = logits.detach().argmax(1)
    if isinstance(targets, torch.Tensor):
        return (answers == targets).sum()
    first, second = (answers == targets.first).sum(), (answers == targets.second).sum()
    return targets.share * first + (1.0 - targets.share) * second


def _beta(alpha: float, random: torch.Generator) -> float:
    """A draw of Beta(alpha, alpha): one of two gamma draws over their sum."""
    draws = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=random)
    first, second = draws.tolist()
    if first == second:  # an alpha so small that both are the smallest number there is: then the share is 0 or 1
        return float(torch.randint(2, (), generator=random))
    return float(first / (first + second))


def _box(height: int, width: int, share: float, random: torch.Generator) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of the box, cut off at the image's sides."""
    side = math.sqrt(1.0 - share)
    rows, columns = int(height * side), int(width * side)
    row = int(torch.randint(height, (), generator=random))
    column = int(torch.randint(width, (), generator=random))
    top, left = row - rows // 2, column - columns // 2
    return (
        max(top, 0),
        min(row + rows // 2, height),
        max(left, 0),
        min(column + columns // 2, width),
    )
