"""The scoring set: balanced, repeatable, normalized."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ntksap_export.data import open_data, scoring_set


def test_every_run_of_ten_images_holds_each_digit_once() -> None:
    images, labels = scoring_set(open_data("digits", image_size=16), 40, seed=1)

    assert (40, 3, 16, 16) == tuple(images.shape)
    for start in range(0, 40, 10):
        assert list(range(10)) == sorted(labels[start : start + 10].tolist())


def test_images_belong_to_their_labels_and_are_normalized() -> None:
    data = open_data("digits", image_size=16)
    mean, std = (torch.tensor(values)[:, None, None] for values in (data.spec.mean, data.spec.std))
    known = {
        (tuple(image.flatten().tolist()), int(label))
        for image, label in zip(data.train.take(list(range(len(data.train)))), data.train.labels, strict=True)
    }

    images, labels = scoring_set(data, 20, seed=3)

    for image, label in zip(images, labels, strict=True):
        pixels = (image * std + mean).mul(255).round().to(torch.uint8)
        assert (tuple(pixels.flatten().tolist()), int(label)) in known


def test_same_seed_same_images_other_seed_others_and_nothing_global_is_drawn() -> None:
    data = open_data("digits", image_size=16)
    before = torch.get_rng_state()

    first, again, other = (scoring_set(data, 20, seed=seed)[0] for seed in (5, 5, 6))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_more_than_there_are_gives_all() -> None:
    data = open_data("digits", image_size=16)

    assert len(data.train) == len(scoring_set(data, 10_000, seed=0)[1])


def test_the_same_images_whatever_the_number_of_workers(make_folder: Callable[..., Path]) -> None:
    root = str(make_folder(size=(120, 100)))

    alone, helped = (scoring_set(open_data(root, image_size=97, workers=workers), 4, seed=3) for workers in (0, 2))

    assert torch.equal(alone[0], helped[0])
    assert torch.equal(alone[1], helped[1])
