"""Data sets with a name: found where torchvision puts them, described in one table."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ntksap_export.data import describe_sources, open_data, peek, read_validation
from ntksap_export.data.augment import normalize
from ntksap_export.data.find import data_home, find_source
from ntksap_export.data.memory import MemorySource
from ntksap_export.data.stream import StreamSource
from ntksap_export.data.table import DATA_SETS

from . import cases

WRITERS: dict[str, Callable[[Path], Path]] = {
    "cifar10": cases.write_cifar10,
    "cifar100": cases.write_cifar100,
    "mnist": cases.write_mnist,
    "fashion-mnist": lambda root: cases.write_mnist(root, "FashionMNIST"),
    "tiny-imagenet": cases.write_tiny_imagenet,
    "imagenet": cases.write_imagenet,
}
COUNTS = {
    "cifar10": (50, 10),
    "cifar100": (100, 100),
    "mnist": (20, 10),
    "fashion-mnist": (20, 10),
    "tiny-imagenet": (200, 2),
    "imagenet": (1000, 1000),
}


def test_every_entry_but_the_embedded_one_is_tested_here() -> None:
    assert {"digits", *WRITERS} == set(DATA_SETS)


@pytest.mark.parametrize("name", WRITERS)
def test_a_named_set_is_what_the_table_says(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    entry = DATA_SETS[name]

    look = peek(name, tmp_path)
    dataset = open_data(name, data_dir=tmp_path)

    assert (name, entry.classes, *COUNTS[name]) == (look.name, len(look.classes), look.train_images, look.val_images)
    spec = dataset.spec
    assert (name, entry.image_size, entry.mean, entry.std) == (spec.name, spec.image_size, spec.mean, spec.std)
    assert (entry.augment, COUNTS[name]) == (spec.augment.kind, (spec.train_images, spec.val_images))
    kind = StreamSource if name == "imagenet" else MemorySource
    assert isinstance(dataset.train, kind) and isinstance(dataset.val, kind)


def test_the_pixels_and_labels_of_cifar10(tmp_path: Path) -> None:
    cases.write_cifar10(tmp_path)

    dataset = open_data("cifar10", data_dir=tmp_path)

    assert cases.noise(3, 3, 32, 32).tolist() == dataset.train.take([23])[0].tolist()
    assert [0, 1, 9, 0] == dataset.train.labels[[0, 11, 29, 40]].tolist()
    assert "class3" == dataset.spec.classes[3]


def test_cifar_as_python_3_writes_it(tmp_path: Path) -> None:
    folder = cases.write_cifar10(tmp_path)
    expected = open_data("cifar10", data_dir=tmp_path).train
    for protocol, path in zip((2, 2, 3, 4, 4), sorted(folder.glob("data_batch_*")), strict=True):
        content = pickle.loads(path.read_bytes(), encoding="latin1")
        path.write_bytes(pickle.dumps(content, protocol=protocol))

    actual = open_data("cifar10", data_dir=tmp_path).train

    assert isinstance(expected, MemorySource) and isinstance(actual, MemorySource)
    assert torch.equal(expected.images, actual.images) and torch.equal(expected.labels, actual.labels)


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_is_gray_in_three_channels(tmp_path: Path, packed: bool) -> None:
    cases.write_mnist(tmp_path, packed=packed)

    image = open_data("mnist", data_dir=tmp_path).train.take([3])[0]

    expected = cases.noise(20, 20, 28, 28)[3].tolist()
    assert [expected] * 3 == image.tolist()


def test_decoded_images_at_another_size_are_scaled_like_any(tmp_path: Path) -> None:
    cases.write_mnist(tmp_path)
    pixels = Image.fromarray(cases.noise(20, 20, 28, 28)[3]).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)

    image = open_data("mnist", data_dir=tmp_path, image_size=32).train.take([3])[0]

    assert np.asarray(pixels).transpose(2, 0, 1).tolist() == image.tolist()


def test_cifar_at_the_size_of_large_images_streams(tmp_path: Path) -> None:
    cases.write_cifar10(tmp_path, count=10)

    dataset = open_data("cifar10", data_dir=tmp_path, image_size=128)

    assert isinstance(dataset.train, StreamSource)
    assert ((2, 3, 128, 128), "crop-flip") == (tuple(dataset.train.take([0, 1]).shape), dataset.spec.augment.kind)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_tiny_imagenet_is_read_in_its_zip(tmp_path: Path, method: int) -> None:
    folder = cases.write_tiny_imagenet(tmp_path)
    plain = open_data("tiny-imagenet", data_dir=tmp_path)
    cases.pack(folder, method)

    packed = open_data("tiny-imagenet", data_dir=tmp_path)

    assert plain.spec == packed.spec
    assert torch.equal(plain.train.take([0, 199]), packed.train.take([0, 199]))
    assert torch.equal(plain.val.take([0, 1]), packed.val.take([0, 1]))
    assert [3, 7] == packed.val.labels.tolist()
    assert "n00000007" == packed.spec.classes[7]


def test_what_is_given_wins_over_the_table(tmp_path: Path) -> None:
    cases.write_cifar10(tmp_path)

    spec = open_data("cifar10", data_dir=tmp_path, mean=(0.1, 0.2, 0.3), augment="none").spec

    assert ((0.1, 0.2, 0.3), DATA_SETS["cifar10"].std, "none") == (spec.mean, spec.std, spec.augment.kind)


def test_a_name_of_the_table_wins_over_a_folder(
    tmp_path: Path, make_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cases.write_cifar10(tmp_path)
    make_folder().rename(tmp_path / "cifar10")
    monkeypatch.chdir(tmp_path)

    assert (10, 2) == (len(peek("cifar10", ".").classes), len(peek("./cifar10", ".").classes))


def test_where_named_sets_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NTKSAP_DATA", raising=False)
    usual = data_home(None)
    monkeypatch.setenv("NTKSAP_DATA", str(tmp_path / "shared"))

    assert tmp_path / "home" / ".cache" / "ntksap" == usual
    assert (tmp_path / "shared", tmp_path / "own") == (data_home(None), data_home(str(tmp_path / "own")))
    assert tmp_path / "home" / "own" == data_home("~/own")


def test_validation_images_of_a_named_set(tmp_path: Path) -> None:
    cases.write_cifar10(tmp_path)
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    images = read_validation("cifar10", 10, 32, mean, std, tmp_path)

    expected = normalize(open_data("cifar10", data_dir=tmp_path).val.take([4]), mean, std)
    assert torch.equal(expected, images[4:5])


def test_images_of_every_reader_say_where_they_are(tmp_path: Path) -> None:
    folders = {name: WRITERS[name](tmp_path) for name in ("cifar10", "mnist", "tiny-imagenet")}
    wheres = {name: find_source(name, tmp_path).train.where(1) for name in folders}
    packed = cases.pack(folders["tiny-imagenet"])

    expected = {name: f"{folders[name]}: image 1" for name in ("cifar10", "mnist")}
    inside = "train/n00000001/images/n00000001_0.JPEG"
    assert {**expected, "tiny-imagenet": f"{folders['tiny-imagenet']}/{inside}"} == wheres
    assert f"{packed}: {inside}" == find_source("tiny-imagenet", tmp_path).train.where(1)


def test_all_are_listed_with_their_classes_and_their_files() -> None:
    lines = dict(describe_sources())

    expected = "60,000 photographs of animals and vehicles; 10 classes, 32x32, crop-flip; cifar-10-batches-py/"
    assert expected == lines["cifar10"]
    assert list(DATA_SETS) == list(lines)[: len(DATA_SETS)]
