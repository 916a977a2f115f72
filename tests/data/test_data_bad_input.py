"""Data that cannot be used: one line that says what was wrong, what was got, what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from ntksap_export.data import Augmentation, DataSpec, Loader, make_loaders, open_data, peek, sample_images
from ntksap_export.errors import ConfigError, DataError
from tests.support.refusals import refusal

Make = Callable[..., Path]


def test_no_such_path(tmp_path: Path) -> None:
    expected = f"data '{tmp_path / 'no'}' does not exist; give a name from `ntksap list data` or a folder"

    assert expected == refusal(tmp_path / "no")


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    path.write_bytes(b"")

    assert f"data '{path}' is a file; give a name from `ntksap list data` or a folder" == refusal(path)


def test_neither_layout(tmp_path: Path) -> None:
    expected = (
        f"'{tmp_path}' holds no train/, train-*.tar or train-*.parquet; put images in train/CLASS/ and val/CLASS/"
    )

    assert expected == refusal(tmp_path)


def test_both_layouts(make_folder: Make) -> None:
    root = make_folder()
    (root / "train-0.tar").write_bytes(b"")

    assert f"'{root}' holds both train/ and train-*.tar; keep one of them" == refusal(root)


def test_folder_without_validation(make_folder: Make) -> None:
    root = make_folder(held_out="extra")

    assert f"'{root}' has train/ but no val/ or test/; put held-out images in val/CLASS/" == refusal(root)


def test_a_class_that_is_a_link_to_nowhere(make_folder: Make) -> None:
    root = make_folder()
    (root / "train" / "eel").symlink_to(root / "unmounted")

    expected = f"links that lead nowhere: '{root / 'train' / 'eel'}'; mount what they name, or remove them"
    assert expected == refusal(root)


@pytest.mark.parametrize("split", ["train", "val"])
def test_empty_class_folder(make_folder: Make, split: str) -> None:
    root = make_folder()
    for path in (root / split / "dog").iterdir():
        path.unlink()

    expected = f"class folder '{root / split / 'dog'}' holds no images; add some or remove the folder"
    assert expected == refusal(root)


def test_validation_without_class_folders(make_folder: Make) -> None:
    root = make_folder(held_out="extra")
    (root / "val").mkdir()

    assert f"'{root / 'val'}' holds no class folders; put images in val/CLASS/" == refusal(root)


def test_classes_that_only_validation_has(make_folder: Make) -> None:
    root = make_folder()
    for number in range(7):
        (root / "val" / f"eel{number}").mkdir()

    shown = "'eel0', 'eel1', 'eel2', 'eel3', 'eel4' and 2 more"
    expected = f"'{root / 'val'}' has classes that '{root / 'train'}' lacks: {shown}; remove or rename them"
    assert expected == refusal(root)


def test_one_class(make_folder: Make) -> None:
    root = make_folder()
    (root / "train" / "dog").rename(root / "dogs")

    assert f"'{root / 'train'}' has 1 class(es); a classifier needs at least 2" == refusal(root)


@pytest.mark.parametrize("image_size", [16, 97])
def test_broken_image_in_a_folder(make_folder: Make, image_size: int) -> None:
    root = make_folder(train=200)
    path = root / "train" / "dog" / "001.png"  # not one of the 64 that are looked at
    path.write_bytes(path.read_bytes()[:300])

    with pytest.raises(DataError) as caught:
        for _ in make_loaders(open_data(str(root), image_size=image_size)).train:
            pass

    message = str(caught.value)
    assert message.startswith(f"image '{path}' cannot be decoded (") and "\n" not in message
    assert message.endswith("); replace it or take it out")


def test_broken_image_in_a_worker(make_folder: Make) -> None:
    root = make_folder()
    path = root / "train" / "dog" / "001.png"
    loaders = make_loaders(open_data(str(root), image_size=97, workers=1))
    path.write_bytes(b"\xff\xd8\xff")

    with pytest.raises(DataError) as caught:
        list(loaders.train)

    expected = f"image '{path}' cannot be decoded (not an image of a known format); replace it or take it out"
    assert expected == str(caught.value)


def test_image_that_vanished(make_folder: Make) -> None:
    root = make_folder()
    path = root / "val" / "dog" / "001.png"
    dataset = open_data(str(root), image_size=97)
    path.unlink()

    with pytest.raises(DataError) as caught:
        sample_images(dataset, 4)

    assert str(caught.value).startswith(f"image '{path}' cannot be decoded ([Errno 2] No such file")


def test_decompression_bombs(make_folder: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder()
    path = root / "train" / "cat" / "000.png"
    Image.new("L", (100, 100)).save(path)
    reasons = []
    for limit in (9_999, 4_999):  # Pillow warns of the first and raises for the second
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        reasons.append(refusal(root))

    expected = f"image '{path}' has too many pixels to be decoded safely; shrink it or take it out"
    assert [expected, expected] == reasons


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bombs_where_the_warning_is_only_shown(
    make_folder: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder()
    path = root / "train" / "cat" / "000.png"
    Image.new("L", (100, 100)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9_999)

    expected = f"image '{path}' has 100 x 100 pixels, above the limit of 9999; shrink it or take it out"
    assert expected == refusal(root)


def test_samples_of_more_than_8_bits(make_folder: Make) -> None:
    root = make_folder()
    path = root / "train" / "cat" / "000.png"
    Image.new("I;16", (16, 16), 40_000).save(path)

    assert f"image '{path}' has I;16 samples; convert it to 8 bits per channel" == refusal(root)


@pytest.mark.parametrize(("source", "num_classes"), [("digits", 5), ("digits", 1000)])
def test_class_count_that_does_not_fit(source: str, num_classes: int) -> None:
    expected = f"the data has 10 classes; got --num-classes {num_classes}. Leave it out, or write --num-classes 10"

    assert expected == refusal(source, num_classes=num_classes)


def test_class_count_that_fits() -> None:
    assert 10 == open_data("digits", image_size=8, num_classes=10).spec.num_classes


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"image_size": 7}, "image_size must be at least 8 pixels; got 7. 32 and 224 are usual"),
        ({"mean": [0.5]}, "mean must be 3 numbers, one per channel; got 1. Repeat a gray value"),
        ({"mean": []}, "mean must be 3 numbers, one per channel; got 0. Repeat a gray value"),
        ({"mean": [0.5, 0.5, float("nan")]}, "mean must be finite; got (0.5, 0.5, nan)"),
        ({"std": [1, 1, 1, 1]}, "std must be 3 numbers, one per channel; got 4. Repeat a gray value"),
        (
            {"std": [1, 0, 1]},
            "std must be above 0 in every channel; got (1.0, 0.0, 1.0). Leave it out to have it found",
        ),
        (
            {"augment": "flip"},
            "augment must be one of auto, none, shift, crop-flip, resized-crop; got 'flip'",
        ),
        ({"workers": -1}, "workers must be 0 or more; got -1. 0 decodes in the main process"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_data("digits", **options)  # type: ignore[arg-type]

    assert expected == str(caught.value)


def test_spec_checks_itself() -> None:
    half = (0.5, 0.5, 0.5)

    with pytest.raises(ConfigError, match="augment 'auto' must be resolved; use one of none, shift"):
        DataSpec("x", ("a", "b"), 32, half, half, Augmentation("auto"), 1, 1)
    with pytest.raises(DataError, match="'x' has 1 class"):
        DataSpec("x", ("a",), 32, half, half, Augmentation("none"), 1, 1)


def test_counts_below_one() -> None:
    dataset = open_data("digits", image_size=8)

    with pytest.raises(ConfigError, match=r"batch_size must be at least 1; got 0\. 128 is usual"):
        Loader(dataset.train, dataset.spec, 0, train=True, seed=0)
    with pytest.raises(ConfigError, match="the number of sample images must be at least 1; got 0"):
        sample_images(dataset, 0)


def test_peek_refuses_like_open(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no train/, train"):
        peek(str(tmp_path))
