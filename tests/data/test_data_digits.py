"""The embedded digits: their content, their split, how they are made."""

from __future__ import annotations

import gzip
import hashlib
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from ntksap_export.data import MemorySource, open_data, peek
from ntksap_export.data.digits import read_digits
from ntksap_export.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def test_content_is_the_1797_digits_of_uci() -> None:
    images, labels = read_digits()

    assert (1797, 8, 8) == images.shape
    assert (0, 16) == (images.min(), images.max())
    assert [178, 182, 177, 183, 181, 182, 181, 179, 174, 180] == np.bincount(labels).tolist()
    assert "87ff0c9e40dc7e2c" == hashlib.sha256(images.tobytes() + bytes(labels.tolist())).hexdigest()[:16]


def test_split_is_fixed() -> None:
    dataset = open_data("digits", image_size=8)

    train, val = dataset.train, dataset.val

    assert (1442, 355) == (dataset.spec.train_images, dataset.spec.val_images)
    assert [35, 36, 35, 36, 36, 36, 36, 35, 34, 36] == torch.bincount(val.labels).tolist()
    assert isinstance(train, MemorySource) and isinstance(val, MemorySource)
    ink = (val.images[:, 0].double() * 16 / 255).round().to(torch.uint8).numpy()
    assert "dffb3bbc3bee43a2" == hashlib.sha256(ink.tobytes() + bytes(val.labels.tolist())).hexdigest()[:16]


def test_every_digit_is_in_exactly_one_split() -> None:
    images, _ = read_digits()
    dataset = open_data("digits", image_size=8)

    split = torch.cat([dataset.train.take(list(range(1442))), dataset.val.take(list(range(355)))])

    rows = (split[:, 0].double() * 16 / 255).round().to(torch.uint8).flatten(1)
    assert sorted(images.reshape(-1, 64).tolist()) == sorted(rows.tolist())


def test_enlarged_digits_keep_range_and_repeat_the_channel() -> None:
    dataset = open_data("digits")

    images = dataset.val.take(list(range(355)))

    assert (355, 3, 32, 32) == tuple(images.shape)
    assert (0, 255) == (int(images.min()), int(images.max()))
    assert torch.equal(images[:, 0], images[:, 1]) and torch.equal(images[:, 0], images[:, 2])
    assert ("digits", 32, "shift") == (dataset.spec.name, dataset.spec.image_size, dataset.spec.augment.kind)


def test_peek_agrees_with_open() -> None:
    seen = peek("digits")

    spec = open_data("digits").spec

    assert (spec.name, spec.classes, spec.image_size, spec.train_images, spec.val_images) == seen


def test_digits_too_large_for_memory_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        open_data("digits", image_size=1024)

    assert "image_size 1024 makes the digits 5,652,873,216 bytes; use 512 or less" == str(caught.value)


def test_script_makes_the_shipped_arrays_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    make_digits = runpy.run_path(str(ROOT / "tests" / "golden" / "make_digits.py"))["make_digits"]
    images, labels = read_digits()
    csv = tmp_path / "digits.csv.gz"
    with gzip.open(csv, "wt") as file:
        np.savetxt(file, np.column_stack([images.reshape(-1, 64), labels]), fmt="%d", delimiter=",")

    make_digits(csv, tmp_path / "one.npz")
    make_digits(csv, tmp_path / "two.npz")

    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with np.load(tmp_path / "one.npz", allow_pickle=False) as made:
        assert np.array_equal(images, made["images"]) and made["images"].dtype == np.uint8
        assert np.array_equal(labels, made["labels"]) and made["labels"].dtype == np.uint8
