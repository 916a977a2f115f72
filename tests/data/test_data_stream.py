"""Images decoded when they are needed: the same whoever decodes them, random parts that cover what they should."""

from __future__ import annotations

import io
import multiprocessing
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from ntksap_export.data import Augmentation, StreamSource, loaders, open_data, stream
from ntksap_export.data.arrays import ArrayFiles
from ntksap_export.data.crops import Crops, draw_box, resize
from ntksap_export.data.find import find_source
from ntksap_export.errors import DataError

from .cases import Batches, same

Make = Callable[..., Path]
USUAL = Augmentation("resized-crop")


def test_streamed_training_depends_on_the_epoch_and_not_on_the_workers(make_folder: Make) -> None:
    root = str(make_folder(size=(120, 100)))
    alone = loaders(root, batch_size=4, image_size=97, seed=2).train
    helped = loaders(root, batch_size=4, image_size=97, seed=2, workers=1).train
    alone.set_epoch(1)
    helped.set_epoch(1)

    batches = list(alone)

    assert [(4, 3, 97, 97), (2, 3, 97, 97)] == [tuple(images.shape) for images, _ in batches]
    assert same(batches, list(helped))
    alone.set_epoch(2)
    assert not same(batches, list(alone))


def test_streamed_validation_is_the_central_part(make_folder: Make) -> None:
    root = make_folder(size=(256, 256))
    image = Image.new("RGB", (512, 256), (255, 0, 0))
    image.paste((0, 255, 0), (144, 16, 368, 240))  # the central 224 of 256
    image.save(root / "val" / "cat" / "000.png")

    dataset = open_data(str(root), image_size=224)

    assert [0, 255, 0] == dataset.val.take([0])[0].double().mean((1, 2)).tolist()


def test_streamed_crops_depend_on_key_and_position_alone(make_folder: Make) -> None:
    source = open_data(str(make_folder(size=(120, 100))), image_size=97).train
    assert isinstance(source, StreamSource)

    def cut(plan: list[tuple[int, int]], key: str) -> torch.Tensor:
        ((images, _),) = source.batches([plan], Crops(key, Augmentation("resized-crop")), pin_memory=False)
        return images

    first, again = cut([(0, 0), (1, 0)], "epoch 1"), cut([(1, 0), (0, 0)], "epoch 1")
    other, second_time = cut([(0, 0), (1, 0)], "epoch 2"), cut([(0, 1), (1, 1)], "epoch 1")

    assert torch.equal(first, again.flip(0))
    for index in (0, 1):
        assert not torch.equal(first[index], other[index]) and not torch.equal(first[index], second_time[index])


class Encoded:
    """One image as a file."""

    labels = np.zeros(1, dtype=np.int64)

    def __init__(self, image: Image.Image, kind: str, **options: Any) -> None:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        self.content = buffer.getvalue()

    def __len__(self) -> int:
        return 1

    def read(self, index: int) -> bytes:
        return self.content

    def where(self, index: int) -> str:
        return "it"


def ramps(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    across = np.broadcast_to(np.linspace(0, 255, width).round().astype(np.uint8), (height, width))
    down = np.broadcast_to(np.linspace(0, 255, height).round().astype(np.uint8)[:, None], (height, width))
    return Image.fromarray(np.stack([across, down, across], axis=2))


def test_random_crops_cover_what_they_should() -> None:
    files = Encoded(ramps(256, 256), "PNG")
    areas, mirrored = [], 0

    for seed in range(300):
        crop = Crops("key", USUAL).cut(files, 0, 32, random.Random(seed)).astype(np.float64)
        wide, high = np.ptp(crop[:, :, 0]) * 32 / 31, np.ptp(crop[:, :, 1]) * 32 / 31
        areas.append(wide * high / 256**2)
        mirrored += bool(crop[0, 0, 0] > crop[0, -1, 0])

        assert 0.7 < wide / high < 1.42

    assert 0.06 < min(areas) < 0.12 and 0.85 < max(areas) <= 1.01
    assert 120 < mirrored < 180


def test_boxes_are_as_asked_for() -> None:
    asked = Augmentation("resized-crop", crop_scale=(0.2, 0.3), crop_ratio=(2.0, 3.0))

    boxes = [draw_box(400, 300, random.Random(seed), asked) for seed in range(300)]

    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= 400 and 0 <= top < bottom <= 300
        assert 0.19 < (right - left) * (bottom - top) / (400 * 300) < 0.31
        assert 1.95 < (right - left) / (bottom - top) < 3.05


def test_an_image_too_narrow_for_any_box_gives_its_middle() -> None:
    assert (196, 0, 204, 8) == draw_box(400, 8, random.Random(0), USUAL)
    assert (0, 196, 8, 204) == draw_box(8, 400, random.Random(0), USUAL)


def test_resizing_is_what_pillow_does() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    expected = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR)).astype(int)

    assert np.abs(expected - resize(image, 32)).max() <= 1
    assert np.abs(expected[:, ::-1] - resize(image, 32, mirrored=True)).max() <= 1
    assert np.array_equal(noise[:60, :60], resize(image.crop((0, 0, 60, 60)), 60))


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_large_jpeg_decoded_small_shows_the_same_part(factor: int) -> None:
    image = ramps(601, 403)
    size = 403 // factor - 20
    whole = Augmentation("resized-crop", crop_scale=(0.9, 1.0), crop_ratio=(1.45, 1.55))
    small, large = (
        Crops("key", whole).cut(files, 0, size, random.Random(4)).astype(int)
        for files in (Encoded(image, "JPEG", quality=95, subsampling=0), Encoded(image, "PNG"))
    )

    assert np.abs(small - large).max() <= 8  # of 255; a shift by one pixel of the result would be 255 / size
    assert np.abs(small - large).mean() < 2


def test_draft_is_used_where_it_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    original = JpegImageFile.draft

    def spy(image: JpegImageFile, mode: str, size: tuple[int, int]) -> object:
        asked.append(size)
        return original(image, mode, size)

    monkeypatch.setattr(JpegImageFile, "draft", spy)
    whole = Augmentation("resized-crop", crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))
    files = Encoded(ramps(400, 400), "JPEG")

    for size in (201, 200, 101, 100, 50, 10):
        Crops("key", whole).cut(files, 0, size, random.Random(0))

    assert [(200, 200), (200, 200), (100, 100), (50, 50), (50, 50)] == asked


@pytest.fixture
def source(make_folder: Make) -> Iterator[StreamSource]:
    """Six images of two classes, decoded by a worker."""
    source = open_data(str(make_folder(size=(120, 100))), image_size=97, workers=1).train
    assert isinstance(source, StreamSource)
    yield source
    source.close()


PLAN = [[(0, 0), (1, 0)], [(2, 0)], [(5, 0), (3, 0)]]


def children() -> set[int | None]:
    return {child.pid for child in multiprocessing.active_children()}


def passed(source: StreamSource, key: str = "key") -> Batches:
    return list(source.batches(PLAN, Crops(key, USUAL), pin_memory=False))


def test_workers_stay_from_one_pass_to_the_next_until_they_are_closed(source: StreamSource) -> None:
    before = children()
    first = passed(source)
    workers = children() - before
    second = passed(source, "other")

    assert 1 == len(workers) and workers == children() - before
    assert not same(first, second) and same(first, passed(source))
    source.close()
    assert before == children()
    assert same(first, passed(source))


def test_a_pass_that_was_given_up_leaves_no_trace(source: StreamSource) -> None:
    whole = passed(source)
    begun = source.batches(PLAN, Crops("other", USUAL), pin_memory=False)
    next(begun)
    begun.close()

    assert same(whole, passed(source))


def test_two_passes_at_once(source: StreamSource) -> None:
    first, second = (source.batches(PLAN, Crops(key, USUAL), pin_memory=False) for key in ("a", "b"))

    pairs = list(zip(first, second, strict=True))

    assert same([pair[0] for pair in pairs], passed(source, "a"))
    assert same([pair[1] for pair in pairs], passed(source, "b"))


def test_nothing_to_decode_starts_no_worker(source: StreamSource) -> None:
    before = children()

    assert [] == list(source.batches([], None, pin_memory=False)) and before == children()


@pytest.mark.parametrize(
    ("said", "kind", "shown"),
    [
        (
            "DataLoader worker (pid 7) is killed by signal: Killed.\nMore",
            DataError,
            r"a process that decodes images died \(DataLoader worker .* Killed\. More\); is memory .* fewer --workers",
        ),
        ("a bug of ours", RuntimeError, "a bug of ours"),
    ],
)
def test_a_worker_that_dies_is_one_line(
    source: StreamSource, monkeypatch: pytest.MonkeyPatch, said: str, kind: type[Exception], shown: str
) -> None:
    class Dying:
        def __init__(self, *_: object, **__: object) -> None: ...

        def __iter__(self) -> Iterator[object]:
            raise RuntimeError(said)

    monkeypatch.setattr(stream, "DataLoader", Dying)

    with pytest.raises(kind, match=shown):
        passed(source)


def test_more_workers_than_cpus_are_nothing_to_warn_of(make_folder: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    source = open_data(str(make_folder(size=(120, 100))), image_size=97, workers=2).train
    assert isinstance(source, StreamSource)

    labels = [labels.tolist() for _, labels in passed(source)]
    source.close()

    assert [[0, 0], [0], [1, 1]] == labels  # and warnings are errors


def test_batches_lie_as_the_model_wants_them(source: StreamSource) -> None:
    assert all(images.is_contiguous(memory_format=torch.channels_last) for images, _ in passed(source))


def test_shards_are_announced_and_read_the_same(make_shards: Make) -> None:
    root = str(make_shards())
    files = find_source(root).train
    source = StreamSource(files, 97)

    ((images, labels),) = source.batches([[(7, 0), (0, 0), (4, 0)]], None, pin_memory=False)

    assert [1, 0, 0] == labels.tolist()
    assert torch.equal(torch.cat([source.take([index]) for index in (7, 0, 4)]), images)


def test_decoded_images_stream_too() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 40, 40), dtype=np.uint8)
    source = StreamSource(ArrayFiles("arrays", pixels, np.zeros(2, dtype=np.int64)), 40)

    assert torch.equal(torch.from_numpy(pixels).expand(-1, 3, -1, -1), source.take([0, 1]))
