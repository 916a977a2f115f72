"""Images to score weights with: few, and as many of each class as of any other."""

from __future__ import annotations

import torch

from ntksap_export.data.augment import normalize
from ntksap_export.data.sources import DataSet


def scoring_set(dataset: DataSet, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw training images class by class in turn, so that each run of `classes` images holds every class once.

    Args:
        dataset: from `open_data`.
        count: how many; fewer are returned where the classes run out.
        seed: which images.

    Returns:
        float32 (count, 3, S, S), normalized and not augmented, and int64 (count,), on the CPU.

    Raises:
        DataError: an image cannot be decoded.
    """
    labels = dataset.train.labels
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    mixed = labels[order]
    # The place of each image among those of its own class, in the mixed order.
    turn = torch.empty_like(mixed)
    for label in range(len(dataset.spec.classes)):
        of_class = (mixed == label).nonzero().squeeze(1)
        turn[of_class] = torch.arange(len(of_class))
    chosen = order[torch.argsort(turn * len(dataset.spec.classes) + mixed, stable=True)[:count]]
    images = dataset.train.take(chosen.tolist())
    return normalize(images, dataset.spec.mean, dataset.spec.std), labels[chosen]
