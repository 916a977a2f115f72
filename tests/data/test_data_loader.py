"""Batches: complete, repeatable, moved but not changed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ntksap_export.data import (
    Loader,
    loaders,
    make_loaders,
    open_data,
    sample_images,
)
from ntksap_export.data.augment import Moves, draw_moves, move, normalize

from .cases import Batches, numbered, same

Make = Callable[..., Path]
CPU = torch.device("cpu")


@given(count=st.integers(1, 40), batch_size=st.integers(1, 20), train=st.booleans())
def test_every_image_once_but_for_a_last_one_alone(count: int, batch_size: int, train: bool) -> None:
    dataset = numbered(count)
    loader = Loader(dataset.train, dataset.spec, batch_size, train=train, seed=1)

    batches = list(loader)

    labels = [label for _, batch in batches for label in batch.tolist()]
    alone = train and count > batch_size > 1 and count % batch_size == 1
    assert len(loader) == len(batches)
    assert count - alone == len(set(labels)) == len(labels)
    assert train or labels == list(range(count))
    assert not alone or min(len(batch) for _, batch in batches) == batch_size


def test_batch_size_one_keeps_every_image() -> None:
    dataset = numbered(5)

    assert 5 == len(Loader(dataset.train, dataset.spec, 1, train=True, seed=0))


def test_images_go_with_their_labels_and_are_normalized() -> None:
    dataset = numbered(10)
    loader = Loader(dataset.train, dataset.spec, 4, train=True, seed=0, augment=True)

    for images, labels in loader:
        pixels = dataset.train.take(labels.tolist()).double() / 255
        mean = torch.tensor(dataset.spec.mean, dtype=torch.float64).view(3, 1, 1)
        std = torch.tensor(dataset.spec.std, dtype=torch.float64).view(3, 1, 1)
        expected = (pixels - mean) / std

        assert (torch.float32, torch.int64) == (images.dtype, labels.dtype)
        torch.testing.assert_close(images.double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("augment", ["none", "shift", "crop-flip"])
def test_an_epoch_repeats_exactly_and_differs_from_the_next(augment: str) -> None:
    dataset = numbered(40, augment=augment)
    loader = make_loaders(dataset, 16, seed=5).train
    epochs: list[Batches] = []
    for epoch in range(3):
        loader.set_epoch(epoch)
        epochs.append(list(loader))

    resumed = make_loaders(dataset, 16, seed=5).train
    resumed.set_epoch(2)
    again = list(resumed)

    assert same(epochs[2], again)
    assert same(again, list(resumed))
    assert not same(epochs[0], epochs[1]) and not same(epochs[1], epochs[2])
    assert not same(epochs[0], list(make_loaders(dataset, 16, seed=6).train))


def test_order_is_pinned() -> None:
    loader = make_loaders(numbered(10), 10, seed=0).train
    loader.set_epoch(1)

    ((_, labels),) = list(loader)

    assert [8, 1, 3, 4, 6, 0, 7, 2, 9, 5] == labels.tolist()


def test_augmentation_does_not_depend_on_the_batch_size() -> None:
    dataset = numbered(12, augment="crop-flip")

    small = torch.cat([images for images, _ in make_loaders(dataset, 4).train])
    large = torch.cat([images for images, _ in make_loaders(dataset, 12).train])

    assert torch.equal(small, large)


def test_caller_random_state_is_neither_read_nor_changed(make_folder: Make) -> None:
    root = str(make_folder())
    runs = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        before = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())
        batches: Batches = []
        for image_size in (16, 97):  # in memory and streamed
            batches += list(loaders(root, batch_size=4, image_size=image_size).train)
        runs.append(batches)

        assert torch.equal(before[0], torch.get_rng_state())
        assert before[1:] == (random.getstate(), repr(np.random.get_state()))

    assert same(*runs)


def test_validation_is_never_augmented() -> None:
    dataset = numbered(6, augment="crop-flip")

    ((images, _),) = list(make_loaders(dataset, 8).val)

    assert torch.equal(normalize(dataset.val.take(list(range(6))), dataset.spec.mean, dataset.spec.std), images)


def test_moves_against_a_plain_writing() -> None:
    size, count = 16, 50
    images = numbered(count, size).train.take(list(range(count)))
    moves = draw_moves("crop-flip", count, size, "key", CPU)
    assert moves is not None

    moved = move(images, moves)

    padded = np.zeros((count, 3, size + 4, size + 4), dtype=np.uint8)
    padded[:, :, 2:-2, 2:-2] = images.numpy()
    for index in range(count):
        top, left = int(moves.rows[index]), int(moves.columns[index])
        crop = padded[index, :, top : top + size, left : left + size]
        expected = crop[:, :, ::-1] if moves.mirrored[index] else crop
        assert np.array_equal(expected, moved[index].numpy())


def test_moves_reach_every_place_and_no_further() -> None:
    moves = draw_moves("crop-flip", 2000, 32, "key", CPU)
    assert moves is not None

    assert list(range(9)) == sorted(set(moves.rows.tolist())) == sorted(set(moves.columns.tolist()))
    assert 0.5 == pytest.approx(moves.mirrored.double().mean().item(), abs=0.05)


def test_shift_never_mirrors() -> None:
    moves = draw_moves("shift", 2000, 32, "key", CPU)
    assert moves is not None

    assert not moves.mirrored.any()


def test_the_middle_move_changes_nothing() -> None:
    images = numbered(4, 16).train.take([0, 1, 2, 3])
    middle = torch.full((4,), 2)

    moved = move(images, Moves(middle, middle, torch.zeros(4, dtype=torch.bool)))

    assert torch.equal(images, moved)


@pytest.mark.parametrize("augment", ["shift", "crop-flip"])
def test_augmentation_keeps_shape_and_most_of_the_content(augment: str) -> None:
    size = 32
    dataset = open_data("digits", augment=augment)
    plain = torch.cat([images for images, _ in make_loaders(open_data("digits", augment="none"), 64).train])

    moved = torch.cat([images for images, _ in make_loaders(dataset, 64).train])

    assert (1442, 3, size, size) == tuple(moved.shape)
    assert not torch.equal(plain, moved)
    assert plain.mean().item() == pytest.approx(moved.mean().item(), abs=0.1)
    assert plain.std().item() == pytest.approx(moved.std().item(), abs=0.1)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_memory_format(memory_format: torch.memory_format) -> None:
    dataset = numbered(4)

    ((images, _),) = list(make_loaders(dataset, 4, memory_format=memory_format).val)

    assert images.is_contiguous(memory_format=memory_format)
    assert torch.equal(next(iter(make_loaders(dataset, 4).val))[0], images)


def test_sample_images_are_spread_and_repeatable() -> None:
    dataset = numbered(10)

    pixels = normalize(dataset.val.take([0, 2, 5, 7]), dataset.spec.mean, dataset.spec.std)

    assert torch.equal(pixels, sample_images(dataset, 4))
    assert torch.equal(pixels, sample_images(make_loaders(dataset), 4))


def test_more_sample_images_than_there_are_repeat() -> None:
    dataset = numbered(3)

    images = sample_images(dataset, 7)

    assert (7, 3, 8, 8) == tuple(images.shape)
    assert torch.equal(images[:3], images[3:6]) and torch.equal(images[0], images[6])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_batches_of_the_cpu(make_folder: Make) -> None:
    root = str(make_folder())
    for image_size in (16, 97):
        here = list(loaders(root, batch_size=4, image_size=image_size, seed=1).train)
        there = list(loaders(root, batch_size=4, image_size=image_size, seed=1, device="cuda").train)

        assert {"cuda"} == {images.device.type for images, _ in there} | {labels.device.type for _, labels in there}
        for (images, labels), (cuda_images, cuda_labels) in zip(here, there, strict=True):
            assert labels.tolist() == cuda_labels.tolist()
            torch.testing.assert_close(images, cuda_images.cpu(), atol=1e-6, rtol=1e-6)
