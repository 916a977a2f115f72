"""Broken images that are skipped: replaced by the next good one of their class, counted and named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ntksap_export.data import loaders, make_loaders, open_data, peek, read_validation, sample_images, skipped_text
from ntksap_export.data.broken import substitutes
from ntksap_export.errors import ConfigError, DataError

from .cases import same

Make = Callable[..., Path]
SIDES = [16, 97]  # in memory and streamed


def spoil(root: Path, *names: str) -> list[str]:
    """Overwrite images of a folder; what is said of each."""
    for name in names:
        (root / name).write_bytes(b"no image")
    reason = "cannot be decoded (not an image of a known format); replace it or take it out"
    return [f"image '{root / name}' {reason}" for name in names]


@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=30), data=st.data())
def test_substitutes_are_the_rest_of_the_class_from_the_image_on(labels: list[int], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(labels) - 1))

    found = list(substitutes(np.array(labels), index))

    around = [(index + step) % len(labels) for step in range(1, len(labels))]
    assert [place for place in around if labels[place] == labels[index]] == found


@pytest.mark.parametrize("side", SIDES)
def test_the_next_good_image_of_the_class_stands_in(make_folder: Make, side: int) -> None:
    root = make_folder(train=4)
    whole = open_data(str(root), image_size=side).train.take(list(range(8)))
    said = spoil(root, "train/cat/003.png", "train/dog/001.png", "train/dog/002.png")

    dataset = open_data(str(root), image_size=side, broken_images="skip")
    images = dataset.train.take(list(range(8)))

    assert torch.equal(whole[[0, 1, 2, 0, 4, 7, 7, 7]], images)
    assert [0, 0, 0, 0, 1, 1, 1, 1] == dataset.train.labels.tolist()
    assert tuple(said) == dataset.train.skipped == dataset.skipped


@pytest.mark.parametrize("side", SIDES)
def test_batches_keep_their_size_and_the_plan_its_order(make_folder: Make, side: int) -> None:
    root = make_folder(train=4, size=(120, 100))
    whole = list(loaders(str(root), 3, side, seed=1).train)
    said = spoil(root, "train/cat/003.png", "val/dog/000.png")

    made = loaders(str(root), 3, side, seed=1, broken_images="skip")
    batches = list(made.train)
    list(made.val)

    assert [labels.tolist() for _, labels in whole] == [labels.tolist() for _, labels in batches]
    assert [images.shape for images, _ in whole] == [images.shape for images, _ in batches]
    assert tuple(said) == made.skipped
    assert same(batches, list(made.train))


def test_workers_skip_as_this_process_does_and_tell(make_folder: Make) -> None:
    root = make_folder(train=4, size=(120, 100))
    said = spoil(root, "train/cat/003.png")
    alone, helped = (
        loaders(str(root), 3, 97, seed=1, workers=workers, broken_images="skip").train for workers in (0, 1)
    )

    assert same(list(alone), list(helped))
    assert tuple(said) == alone.skipped == helped.skipped


def test_one_line_at_the_end_of_an_epoch_for_what_is_new(make_folder: Make) -> None:
    root = make_folder(train=4)
    made = loaders(str(root), 3, 97, broken_images="skip")
    list(made.train)
    nothing = made.news()
    spoil(root, "train/cat/003.png")
    list(made.train)
    first, again = made.news(), made.news()

    where = f"image '{root / 'train/cat/003.png'}' cannot be decoded (not an image of a known format)"
    assert (None, f"1 broken image(s) replaced by others of their class: {where}", None) == (nothing, first, again)


def test_what_the_decoding_said_is_no_news(make_folder: Make) -> None:
    root = make_folder(train=4)
    spoil(root, "train/cat/003.png")
    made = make_loaders(open_data(str(root), image_size=16, broken_images="skip"))

    assert (1, None) == (len(made.skipped), made.news())


def test_only_the_first_few_are_listed() -> None:
    said = [f"image '{number}' cannot be decoded (cut); replace it or take it out" for number in range(5)]

    expected = "5 broken image(s) replaced by others of their class: " + "; ".join(
        f"image '{number}' cannot be decoded (cut)" for number in range(3)
    )
    assert f"{expected} and 2 more" == skipped_text(said)


@pytest.mark.parametrize("side", SIDES)
def test_a_class_that_is_wholly_broken(make_folder: Make, side: int) -> None:
    root = make_folder(train=3)
    said = spoil(root, *(f"train/dog/{number:03d}.png" for number in range(3)))

    with pytest.raises(DataError) as caught:
        open_data(str(root), image_size=side, broken_images="skip").train.take([4])

    assert str(caught.value).startswith("no image of class 1 can be decoded; the first: image '")
    assert str(caught.value).partition("first: ")[2] in said


def test_broken_images_do_not_spoil_the_size_that_is_found(make_folder: Make) -> None:
    root = make_folder()
    spoil(root, "train/cat/000.png")

    assert 16 == peek(str(root), broken_images="skip").own_size
    with pytest.raises(DataError, match=r"000\.png' cannot be decoded"):
        peek(str(root))


def test_a_set_of_broken_images_has_no_size_of_its_own(make_folder: Make) -> None:
    root = make_folder(train=1, val=1)
    spoil(root, *(f"{split}/{name}/000.png" for split in ("train", "val") for name in ("cat", "dog")))

    assert peek(str(root), broken_images="skip").own_size is None


def test_sample_and_validation_images_skip_too(make_folder: Make) -> None:
    root = make_folder(val=4)
    spoil(root, "val/cat/000.png")
    dataset = open_data(str(root), image_size=16, broken_images="skip")
    mean, std = dataset.spec.mean, dataset.spec.std

    images = read_validation(str(root), 8, 16, mean, std, broken_images="skip")

    assert torch.equal(sample_images(dataset, 8), images)
    with pytest.raises(DataError, match=r"000\.png' cannot be decoded"):
        read_validation(str(root), 8, 16, mean, std)


def test_shards_skip_too(make_shards: Make, write_tar: Callable[..., None], png: Callable[..., bytes]) -> None:
    root = make_shards()
    members = {"a.png": png(0, (16, 16)), "a.cls": b"0", "b.png": b"cut", "b.cls": b"1"}
    write_tar(root / "train-0000.tar", members)

    skipped = open_data(str(root), broken_images="skip").skipped

    where = f"{root / 'train-0000.tar'}: b.png"
    expected = f"image '{where}' cannot be decoded (not an image of a known format); replace it or take it out"
    assert (expected,) == skipped


def test_neither_error_nor_skip() -> None:
    with pytest.raises(ConfigError, match="broken_images must be error or skip; got 'ignore'"):
        open_data("digits", broken_images="ignore")  # type: ignore[typeddict-item]
