"""Shards that cannot be used: one line that says what was wrong, what was got, what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.refusals import refusal

Make = Callable[..., Path]


def test_shards_without_validation(make_shards: Make) -> None:
    root = make_shards(held_out="extra")

    assert f"'{root}' has train-*.tar but no val-*.tar or test-*.tar; add held-out shards" == refusal(root)


def test_labels_that_only_validation_has(make_shards: Make, write_tar: Make, png: Callable[..., bytes]) -> None:
    root = make_shards(classes=None)
    write_tar(root / "test-0000.tar", {"a.png": png(0, (16, 16)), "a.cls": b"2"})

    expected = "has labels for validation that no training sample has: [2]; remove those samples or add classes.txt"
    assert f"'{root}' {expected}" == refusal(root)


def test_a_named_class_without_a_training_sample(make_shards: Make) -> None:
    root = make_shards(classes="cat\ndog\neel\n")

    expected = f"'{root}' has classes without training images: 'eel'; add some or drop the class"
    assert expected == refusal(root)


def test_a_number_that_no_training_sample_has(make_shards: Make, write_tar: Make, png: Callable[..., bytes]) -> None:
    root = make_shards(classes=None)
    write_tar(root / "train-0001.tar", {"7.png": png(0, (16, 16)), "7.cls": b"3"})

    expected = f"'{root}' has classes without training images: '2'; add some or drop the class"
    assert expected == refusal(root)


def test_one_class_in_shards(make_shards: Make, write_tar: Make, png: Callable[..., bytes]) -> None:
    root = make_shards(classes="cat")
    members = {"a.png": png(0, (16, 16)), "a.cls": b"0"}
    for path in root.glob("*.tar"):
        write_tar(path, members)

    assert f"'{root}' has 1 class(es); a classifier needs at least 2" == refusal(root)


def test_broken_image_in_a_shard(make_shards: Make, write_tar: Make, png: Callable[..., bytes]) -> None:
    root = make_shards()
    shard = root / "train-0001.tar"
    write_tar(shard, {"a/b.png": b"GIF89a", "a/b.cls": b"1"})

    expected = f"image '{shard}: a/b.png' cannot be decoded (not an image of a known format)"
    assert f"{expected}; replace it or take it out" == refusal(root)


@pytest.mark.parametrize("kept", [100, 512, 1000, 2048, -10240, -1])
def test_truncated_shard(make_shards: Make, kept: int) -> None:
    root = make_shards()
    shard = root / "train-0001.tar"
    whole = shard.read_bytes()
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    shard.write_bytes(whole[:end] if kept == -1 else whole[:kept])

    message = refusal(root)

    assert message.startswith(f"shard '{shard}' is truncated or ")
    assert message.endswith("; fetch it again")


def test_shard_that_is_no_tar(make_shards: Make) -> None:
    root = make_shards()
    (root / "test-0000.tar").write_bytes(b"\x1f\x8b" + b"x" * 5000)

    assert refusal(root).startswith(f"shard '{root / 'test-0000.tar'}' is truncated or no tar file (")


def test_shard_without_samples(make_shards: Make, write_tar: Make) -> None:
    root = make_shards()
    write_tar(root / "test-0000.tar", {"readme.txt": b"hello"})

    assert f"'{root / 'test-0000.tar'}' holds no samples; a sample is KEY.jpg and KEY.cls" == refusal(root)


@pytest.mark.parametrize("text", [b"cat", b"", b"-1", b"1.0", b"\xff", "٣".encode(), b"0" * 21])
def test_label_that_is_not_a_number(make_shards: Make, write_tar: Make, png: Callable[..., bytes], text: bytes) -> None:
    root = make_shards()
    write_tar(root / "train-0000.tar", {"7.png": png(0, (16, 16)), "7.cls": text})

    message = refusal(root)

    assert message.startswith(f"'{root / 'train-0000.tar'}: 7.cls' must hold a class number in decimal; got ")


@pytest.mark.parametrize(("classes", "limit"), [("cat\ndog", 2), (None, 1_000_000)])
def test_label_out_of_range(
    make_shards: Make, write_tar: Make, png: Callable[..., bytes], classes: str | None, limit: int
) -> None:
    root = make_shards(classes=classes)
    write_tar(root / "train-0000.tar", {"7.png": png(0, (16, 16)), "7.cls": str(limit).encode()})

    where = f"'{root / 'train-0000.tar'}: 7.cls'"
    assert f"{where} holds class {limit}; there are {limit} classes, 0 to {limit - 1}" == refusal(root)


@pytest.mark.parametrize(("missing", "word"), [("3.cls", ".cls"), ("3.png", "image")])
def test_sample_that_lacks_a_part(
    make_shards: Make, write_tar: Make, png: Callable[..., bytes], missing: str, word: str
) -> None:
    root = make_shards()
    members = {"2.png": png(0, (16, 16)), "2.cls": b"0", "3.png": png(1, (16, 16)), "3.cls": b"1"}
    del members[missing]
    write_tar(root / "train-0000.tar", members)

    where = f"'{root / 'train-0000.tar'}'"
    assert f"sample '3' in {where} has no {word}; a sample is KEY.jpg and KEY.cls" == refusal(root)


def test_sample_with_two_images(make_shards: Make, write_tar: Make, png: Callable[..., bytes]) -> None:
    root = make_shards()
    write_tar(root / "train-0000.tar", {"2.png": png(0, (16, 16)), "2.jpg": b"", "2.cls": b"0"})

    expected = f"'{root / 'train-0000.tar'}' has two images of one sample: 2.png, 2.jpg; keep one"
    assert expected == refusal(root)


@pytest.mark.timeout(20)
def test_many_classes_are_looked_through_once(make_shards: Make) -> None:
    root = make_shards(classes="\n".join(map(str, range(100_000))))

    assert "' has classes without training images: " in refusal(root)


def test_class_named_twice(make_shards: Make) -> None:
    root = make_shards(classes="cat\ndog\ncat\n")

    assert f"'{root / 'classes.txt'}' names 'cat' twice; every class needs a name of its own" == refusal(root)


def test_class_names_that_are_not_text(make_shards: Make) -> None:
    root = make_shards()
    (root / "classes.txt").write_bytes(b"\xff\xfe\n")

    assert refusal(root).startswith(f"'{root / 'classes.txt'}' is not UTF-8 (")
