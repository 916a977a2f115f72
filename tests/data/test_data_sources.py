"""Opening folders and shards that are as they should be."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ntksap_export.data import MemorySource, StreamSource, describe_sources, open_data, peek, sample_images
from ntksap_export.data import sources as sources_module
from ntksap_export.data.memory import channel_statistics

Make = Callable[..., Path]


def test_every_source_is_described_in_one_line() -> None:
    lines = describe_sources()

    assert ["digits", "FOLDER", "FOLDER", "FOLDER", "PATTERN"] == [name for name, _ in (lines[0], *lines[-4:])]
    assert not [text for _, text in lines if "\n" in text or len(text) > 110]


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_folder(make_folder: Make, held_out: str) -> None:
    root = make_folder(held_out=held_out)
    (root / "train" / "cat" / ".hidden.png").write_bytes(b"")
    (root / "train" / "cat" / "notes.txt").write_bytes(b"")
    (root / "train" / "cat" / "folder.png").mkdir()
    os.mkfifo(root / "train" / "cat" / "pipe.png")

    dataset = open_data(str(root))

    assert ("pets", ("cat", "dog"), 16, None, 6, 4) == (*peek(str(root))[:3], None, *peek(str(root))[3:])
    assert (6, 4, "crop-flip") == (dataset.spec.train_images, dataset.spec.val_images, dataset.spec.augment.kind)
    assert [0, 0, 0, 1, 1, 1] == dataset.train.labels.tolist()
    pixels = np.asarray(Image.open(root / held_out / "dog" / "001.png"))
    assert pixels.transpose(2, 0, 1).tolist() == dataset.val.take([3])[0].tolist()


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_shards(make_shards: Make, held_out: str, png: Callable[..., bytes], tmp_path: Path) -> None:
    root = make_shards(held_out=held_out)
    (tmp_path / "expected.png").write_bytes(png(12, (16, 16)))  # third image of the second training shard

    dataset = open_data(str(root))

    assert ("shards", ("cat", "dog"), 16, 8, 4) == peek(str(root))
    assert [0, 1, 0, 1, 0, 1, 0, 1] == dataset.train.labels.tolist()
    pixels = np.asarray(Image.open(tmp_path / "expected.png"))
    assert pixels.transpose(2, 0, 1).tolist() == dataset.train.take([6])[0].tolist()


def test_shards_without_class_names_are_numbered(make_shards: Make) -> None:
    root = make_shards(classes=None)

    assert ("0", "1") == peek(str(root)).classes


def test_keys_end_at_the_first_dot_of_the_last_part(
    make_shards: Make, write_tar: Callable[..., None], png: Callable[..., bytes]
) -> None:
    root = make_shards()
    image = png(0, (16, 16))
    members = {
        "v1.2/a.PNG": image,
        "v1.2/b.png": image,
        "v1.2/b.cls": b"1\n",
        "v1.2/a.cls": b"0",
        "a.json": b"{}",
    }
    write_tar(root / "test-0000.tar", members)

    dataset = open_data(str(root))

    assert [0, 1] == dataset.val.labels.tolist()


def test_one_val_class_may_be_missing(make_folder: Make) -> None:
    root = make_folder()
    for path in (root / "val" / "cat").iterdir():
        path.unlink()
    (root / "val" / "cat").rmdir()

    assert [1, 1] == open_data(str(root)).val.labels.tolist()


@pytest.mark.parametrize(("mode", "expected"), [("L", [90, 90, 90]), ("RGBA", [90, 80, 70]), ("P", [90, 80, 70])])
def test_every_mode_becomes_three_channels(make_folder: Make, mode: str, expected: list[int]) -> None:
    root = make_folder()
    image = Image.new("RGBA", (16, 16), (90, 80, 70, 128)) if mode != "L" else Image.new("L", (16, 16), 90)
    image = image.quantize(4) if mode == "P" else image
    image.save(root / "val" / "cat" / "000.png")

    dataset = open_data(str(root))

    assert expected == dataset.val.take([0])[0, :, 5, 5].tolist()


@pytest.mark.parametrize(
    ("size", "own", "default"),
    [((16, 16), 16, 16), ((96, 96), 96, 96), ((97, 97), 97, 224), ((16, 18), None, 224)],
)
def test_default_size(make_folder: Make, size: tuple[int, int], own: int | None, default: int) -> None:
    seen = peek(str(make_folder(size=size)))

    assert (own, default) == (seen.own_size, seen.default_image_size)


def test_images_of_several_sizes_have_none_of_their_own(make_folder: Make, png: Callable[..., bytes]) -> None:
    root = make_folder()
    (root / "val" / "dog" / "000.png").write_bytes(png(0, (20, 20)))

    assert peek(str(root)).own_size is None


def test_other_sizes_are_scaled_and_cropped_in_the_middle(make_folder: Make) -> None:
    root = make_folder()
    image = Image.new("RGB", (60, 20), (255, 0, 0))
    image.paste((0, 255, 0), (20, 0, 40, 20))  # the central square is green
    image.save(root / "train" / "cat" / "000.png")

    dataset = open_data(str(root), image_size=10)

    inside = dataset.train.take([0])[0, :, :, 1:-1]  # the filter reaches over the edge of the crop
    assert torch.equal(torch.tensor([0, 255, 0]).view(3, 1, 1).expand(3, 10, 8), inside)


def test_large_images_stream_and_small_ones_do_not(make_folder: Make) -> None:
    root = str(make_folder())

    small, large = open_data(root, image_size=96), open_data(root, image_size=97)

    assert isinstance(small.train, MemorySource) and isinstance(small.val, MemorySource)
    assert isinstance(large.train, StreamSource) and isinstance(large.val, StreamSource)
    assert ("crop-flip", "resized-crop") == (small.spec.augment.kind, large.spec.augment.kind)
    assert ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) == (large.spec.mean, large.spec.std)


def test_many_small_images_stream(make_folder: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(make_folder())
    monkeypatch.setattr(sources_module, "MEMORY_LIMIT_BYTES", 10 * 3 * 16 * 16 - 1)

    dataset = open_data(root)

    assert isinstance(dataset.train, StreamSource)
    assert "crop-flip" == dataset.spec.augment.kind


def test_stream_and_memory_give_the_same_validation_images(make_shards: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(make_shards())
    in_memory = open_data(root)
    monkeypatch.setattr(sources_module, "MEMORY_LIMIT_BYTES", 0)
    streamed = open_data(root, mean=in_memory.spec.mean, std=in_memory.spec.std)

    expected, actual = sample_images(in_memory, 4), sample_images(streamed, 4)

    assert isinstance(streamed.val, StreamSource)
    assert torch.equal(expected, actual)


def test_mean_and_std_are_those_of_the_training_images(make_folder: Make) -> None:
    dataset = open_data(str(make_folder()))

    pixels = dataset.train.take(list(range(6))).double().div(255).transpose(0, 1).flatten(1)

    assert pixels.mean(1).tolist() == pytest.approx(dataset.spec.mean, abs=1e-6)
    assert pixels.std(1, correction=0).tolist() == pytest.approx(dataset.spec.std, abs=1e-6)


def test_given_mean_and_std_win(make_folder: Make) -> None:
    spec = open_data(str(make_folder()), mean=[0.1, 0.2, 0.3], std=(1, 2, 3)).spec

    assert ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0)) == (spec.mean, spec.std)


def test_a_constant_channel_is_left_unscaled() -> None:
    mean, std = channel_statistics(torch.full((2, 3, 8, 8), 51, dtype=torch.uint8))

    assert ((0.2, 0.2, 0.2), (1.0, 1.0, 1.0)) == (mean, std)


def test_progress_counts_every_image(make_folder: Make) -> None:
    calls: list[tuple[int, int]] = []

    open_data(str(make_folder()), on_progress=lambda done, total: calls.append((done, total)))

    assert [(6, 10), (10, 10)] == calls


def test_name_is_never_a_path(make_folder: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_folder())

    assert "pets" == peek(".").name


def test_real_images(cifar10: Path, tmp_path: Path) -> None:
    (tmp_path / "train-0.tar").symlink_to(cifar10 / "test-00000.tar")
    (tmp_path / "test-0.tar").symlink_to(cifar10 / "test-00000.tar")
    (tmp_path / "classes.txt").symlink_to(cifar10 / "classes.txt")

    dataset = open_data(str(tmp_path))

    assert [1000] * 10 == torch.bincount(dataset.train.labels).tolist()
    assert (32, "airplane", "truck") == (
        dataset.spec.image_size,
        dataset.spec.classes[0],
        dataset.spec.classes[9],
    )
    assert (0.494, 0.485, 0.450) == pytest.approx(dataset.spec.mean, abs=2e-3)
