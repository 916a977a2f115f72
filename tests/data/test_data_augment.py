"""Random cuts, holes and repeats, each against a plain slow writing of what it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ntksap_export.data import Augmentation, Loader, loaders, make_loaders, open_data, resolve_augmentation
from ntksap_export.data.augment import Normalizer, cut_out_, draw_holes
from ntksap_export.data.draws import draw_order
from ntksap_export.data.recut import Boxes, draw_boxes, recut
from ntksap_export.errors import ConfigError

from .cases import numbered, same

CPU = torch.device("cpu")
CROPS = ((0.08, 1.0), (3 / 4, 4 / 3))


def noise(count: int, size: int) -> torch.Tensor:
    return numbered(count, size).train.take(list(range(count)))


def at(image: np.ndarray, y: float, x: float) -> np.ndarray:
    """The colour at a point, in pixels from the outer edge, bilinear between pixel centres; float64 (3,)."""
    size = image.shape[-1]
    total = np.zeros(3)
    for row in (math.floor(y - 0.5), math.floor(y - 0.5) + 1):
        for column in (math.floor(x - 0.5), math.floor(x - 0.5) + 1):
            weight = (1 - abs(y - 0.5 - row)) * (1 - abs(x - 0.5 - column))
            total += weight * image[:, min(max(row, 0), size - 1), min(max(column, 0), size - 1)]
    return total


def test_recut_against_a_plain_writing() -> None:
    size, count = 9, 20
    images = noise(count, size)
    boxes = draw_boxes(count, size, *CROPS, "key", CPU)

    actual = recut(images, boxes).double().numpy()

    for index, image in enumerate(images.double().numpy()):
        (left, top), (wide, high) = boxes.corners[index].tolist(), boxes.sides[index].tolist()
        expected = np.empty((3, size, size))
        for row in range(size):
            for column in range(size):
                across = size - 1 - column if boxes.mirrored[index] else column
                expected[:, row, column] = at(
                    image, top + (row + 0.5) * high / size, left + (across + 0.5) * wide / size
                )
        assert np.abs(expected - actual[index]).max() < 2e-3


def test_the_whole_image_as_its_box_is_the_image() -> None:
    images = noise(2, 16)
    whole = Boxes(torch.zeros(2, 2, dtype=torch.int64), torch.full((2, 2), 16), torch.tensor([False, True]))

    cut = recut(images, whole)

    torch.testing.assert_close(cut, torch.stack((images[0], images[1].flip(2))).float(), atol=1e-3, rtol=0)


def test_boxes_lie_in_the_image_and_cover_what_they_should() -> None:
    size, count = 64, 20_000
    boxes = draw_boxes(count, size, *CROPS, "key", CPU)
    area = boxes.sides.double().prod(1) / size**2
    shape = boxes.sides[:, 0] / boxes.sides[:, 1]

    assert int(boxes.corners.min()) == 0 and int((boxes.corners + boxes.sides).max()) == size
    assert 0.07 < float(area.min()) < 0.09 and float(area.max()) == 1.0
    assert 0.7 < float(shape.min()) < 0.76 and 1.31 < float(shape.max()) < 1.4
    # Uniform in [0.08, 1], but for large areas of flat shapes, which do not fit.
    assert 0.48 < float(area.mean()) < 0.54
    assert 0.48 < float(boxes.mirrored.double().mean()) < 0.52


def test_all_corners_with_room_are_drawn_alike() -> None:
    boxes = draw_boxes(9000, 4, (0.25, 0.25), (1.0, 1.0), "key", CPU)

    places = torch.bincount(boxes.corners[:, 0] * 3 + boxes.corners[:, 1], minlength=9)

    assert [2, 2] == boxes.sides.unique(dim=0).squeeze(0).tolist()
    assert 9 == len(places) and 880 < int(places.min()) and int(places.max()) < 1120


def test_where_no_box_fits_the_whole_image_is_taken() -> None:
    boxes = draw_boxes(5, 8, (1.0, 1.0), (4.0, 4.0), "key", CPU)

    assert [[8, 8]] * 5 == boxes.sides.tolist()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("side", [1, 2, 3, 8])
def test_cutout_against_a_plain_writing(side: int, layout: torch.memory_format) -> None:
    size, count = 8, 80
    images = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))
    centres = draw_holes(count, size, "key", CPU)
    expected = images.clone()
    for index, (y, x) in enumerate(centres.tolist()):
        for row in range(y - side // 2, y - side // 2 + side):
            for column in range(x - side // 2, x - side // 2 + side):
                if 0 <= row < size and 0 <= column < size:
                    expected[index, :, row, column] = 0

    actual = images.clone(memory_format=layout)
    cut_out_(actual, centres, side)

    assert torch.equal(expected, actual)
    assert list(range(size)) == sorted(centres[:, 0].unique().tolist())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_normalization_against_a_plain_writing(layout: torch.memory_format, dtype: torch.dtype) -> None:
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    normalize = Normalizer(mean, std, CPU)
    for size in (8, 16):
        images = noise(5, size).to(dtype).contiguous(memory_format=layout)
        before = images.clone()
        wide = np.array(mean)[:, None, None], np.array(std)[:, None, None]
        expected = (images.double().numpy() / 255 - wide[0]) / wide[1]

        actual = normalize(images)

        assert actual.is_contiguous(memory_format=layout) and torch.equal(before, images)
        assert np.abs(expected - actual.double().numpy()).max() < 1e-5


def test_a_cut_image_has_zeros_where_its_hole_is() -> None:
    dataset = numbered(40, augment="crop-flip", cutout=4)
    images = torch.cat([images for images, _ in make_loaders(dataset, 16).train])

    holes = (images == 0).all(dim=1).flatten(1).sum(1)

    assert 4 <= int(holes.min()) and int(holes.max()) == 16  # cut off at a corner, 2 x 2 of 4 x 4 stay
    assert 0 == int((torch.cat([images for images, _ in make_loaders(dataset, 16).val]) == 0).all(dim=1).sum())


@given(count=st.integers(1, 40), repeats=st.integers(1, 6))
def test_repeats_stand_next_to_each_other_and_an_epoch_keeps_its_length(count: int, repeats: int) -> None:
    order = draw_order(count, repeats, "key").tolist()

    groups = [order[start : start + repeats] for start in range(0, count, repeats)]
    assert count == len(order)
    assert [1] * len(groups) == [len(set(group)) for group in groups]
    assert len(groups) == len(set(order))


def test_repeated_images_are_augmented_anew() -> None:
    dataset = numbered(64, augment="crop-flip", repeats=2)

    ((images, labels),) = list(make_loaders(dataset, 64, seed=3).train)

    assert torch.equal(labels[0::2], labels[1::2]) and 32 == len(labels.unique())
    different = [not torch.equal(images[place], images[place + 1]) for place in range(0, 64, 2)]
    assert sum(different) > 25  # of 3 x 3 x 2 moves one in 18 agrees


def test_repeated_images_are_cut_anew_while_they_are_decoded(make_folder: Callable[..., Path]) -> None:
    root = str(make_folder(train=4, size=(120, 100)))

    ((images, labels),) = list(loaders(root, 8, 97, seed=1, repeats=2).train)

    assert torch.equal(labels[0::2], labels[1::2])
    assert not any(torch.equal(images[place], images[place + 1]) for place in range(0, 8, 2))


KINDS: list[dict[str, Any]] = [
    {"augment": "crop-flip"},
    {"augment": "shift", "cutout": 3},
    {"augment": "resized-crop"},
    {"augment": "resized-crop", "crop_scale": (0.5, 0.9), "crop_ratio": (1.0, 2.0), "repeats": 3, "cutout": 2},
    {"augment": "none", "cutout": 4, "repeats": 2},
]


@pytest.mark.parametrize("options", KINDS)
def test_draws_depend_on_seed_epoch_and_place_alone(options: dict[str, Any]) -> None:
    def epoch(number: int, batch_size: int = 6, seed: int = 5, start: int = 0) -> torch.Tensor:
        loader = make_loaders(numbered(36, **options), batch_size, seed).train
        loader.set_epoch(number)
        return torch.cat([images for images, _ in loader.batches(start)])

    whole = epoch(2)

    assert torch.equal(whole, epoch(2, batch_size=9))
    assert torch.equal(whole[18:], epoch(2, start=3))
    assert not torch.equal(whole, epoch(3)) and not torch.equal(whole, epoch(2, seed=6))


@pytest.mark.parametrize("options", KINDS)
def test_two_processes_see_what_one_sees(options: dict[str, Any]) -> None:
    dataset = numbered(36, **options)
    alone = list(make_loaders(dataset, 12).train)
    first, second = (list(make_loaders(dataset, 12, part=(rank, 2)).train) for rank in (0, 1))

    assert same([(images[0::2], labels[0::2]) for images, labels in alone], first)
    assert same([(images[1::2], labels[1::2]) for images, labels in alone], second)


def test_resized_crops_of_images_in_memory() -> None:
    dataset = open_data("digits", augment="resized-crop")
    loader = make_loaders(dataset, 64, memory_format=torch.channels_last).train
    plain = Loader(dataset.train, dataset.spec, 64, train=True, seed=0)

    images, labels = next(iter(loader))
    still, still_labels = next(iter(plain))

    assert torch.equal(still_labels, labels) and still.shape == images.shape
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert not any(torch.allclose(a, b, atol=1e-2) for a, b in zip(images, still, strict=True))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "flip"}, "augment must be one of auto, none, shift, crop-flip, resized-crop; got 'flip'"),
        ({"cutout": -1}, "cutout is a side in pixels, 0 for none; got -1"),
        ({"repeats": 0}, "repeats must be at least 1; got 0. 3 is usual where images are repeated"),
        (
            {"crop_scale": (0.0, 1.0)},
            "crop-scale must be two numbers above 0 and at most 1, the smaller first; got 0,1",
        ),
        (
            {"crop_scale": (0.5, 0.1)},
            "crop-scale must be two numbers above 0 and at most 1, the smaller first; got 0.5,0.1",
        ),
        (
            {"crop_scale": (0.5, 1.1)},
            "crop-scale must be two numbers above 0 and at most 1, the smaller first; got 0.5,1.1",
        ),
        ({"crop_ratio": (1.0, math.inf)}, "crop-ratio must be two numbers above 0, the smaller first; got 1,inf"),
        ({"crop_ratio": (math.nan, 1.0)}, "crop-ratio must be two numbers above 0, the smaller first; got nan,1"),
        (
            {"kind": "crop-flip", "crop_scale": (0.5, 1.0)},
            "crop-scale and crop-ratio belong to augment resized-crop; got augment crop-flip",
        ),
        (
            {"kind": "none", "repeats": 3},
            "repeats 3 with augment none shows the same image again; leave it away",
        ),
    ],
)
def test_values_that_cannot_be_used(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Augmentation(**values)

    assert message == str(caught.value)


@pytest.mark.parametrize(
    ("source", "size", "asked", "message"),
    [
        ("digits", 32, {"cutout": 33}, "cutout 33 is larger than images of 32 pixels; use less than half"),
        (
            "cifar10",
            32,
            {"crop_scale": (0.5, 1.0)},
            "crop-scale and crop-ratio belong to augment resized-crop; got augment crop-flip",
        ),
    ],
)
def test_what_does_not_fit_the_data(source: str, size: int, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_augmentation(source, size, Augmentation(**asked))

    assert message == str(caught.value)


@pytest.mark.parametrize(
    ("source", "size", "kind"),
    [
        ("digits", 32, "shift"),
        ("mnist", 28, "shift"),
        ("tiny-imagenet", 64, "resized-crop"),
        ("cifar10", 224, "crop-flip"),
        ("some/folder", 96, "crop-flip"),
        ("some/folder", 97, "resized-crop"),
    ],
)
def test_the_usual_kind(source: str, size: int, kind: str) -> None:
    asked = Augmentation(cutout=8, repeats=2)

    assert Augmentation(kind, cutout=8, repeats=2) == resolve_augmentation(source, size, asked)
