"""From what the user names, "digits" or a folder, to a `DataSet`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ntksap_export.data.digits import open_digits, peek_digits
from ntksap_export.data.files import Index
from ntksap_export.data.folder import read_folder
from ntksap_export.data.images import measure
from ntksap_export.data.memory import MEMORY_LIMIT_BYTES, MemorySource, channel_statistics, decode_all
from ntksap_export.data.shards import read_shards
from ntksap_export.data.spec import (
    AUGMENTS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    SMALL_SIDE,
    DataSpec,
    Peek,
    Triple,
    check_classes,
    check_image_size,
    check_std,
    check_triple,
)
from ntksap_export.data.stream import StreamSource
from ntksap_export.errors import ConfigError, DataError

_LOOKED_AT = 64  # images of each split whose size is looked at

_SOURCES = (
    ("digits", "1,797 real handwritten digits of 8 x 8 pixels, embedded; a folder of that name is ./digits"),
    ("FOLDER", "train/CLASS/*.jpg (or .png, .webp, ...) and val/CLASS/* or test/CLASS/*"),
    (
        "FOLDER",
        "WebDataset shards: train-*.tar and val-*.tar or test-*.tar of KEY.jpg + KEY.cls; classes.txt",
    ),
)

Source = MemorySource | StreamSource


@dataclass(frozen=True, slots=True, eq=False)
class DataSet:
    """Images to train on and images to judge by.

    Args:
        spec: what they are.
        train: training images.
        val: validation images.
    """

    spec: DataSpec
    train: Source
    val: Source


def describe_sources() -> tuple[tuple[str, str], ...]:
    """What `open_data` takes: pairs of name and one line of text."""
    return _SOURCES


def peek(source: str) -> Peek:
    """Look at a source without decoding it: names, counts, and the size of a few images.

    Args:
        source: as for `open_data`.

    Raises:
        DataError: it cannot be used.
    """
    return peek_digits() if source == "digits" else _peek_index(find_source(source))


def open_data(
    source: str,
    *,
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    augment: str = "auto",
    num_classes: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    workers: int = 0,
) -> DataSet:
    """Open a data set.

    Images of at most 96 pixels a side that fit 2 GB are decoded now and kept; others batch by batch.

    Args:
        source: "digits", or a folder: see `describe_sources`.
        image_size: side in pixels, at least 8. None: the images' own if they are square, equal and at most 96
            pixels (64 of each split, evenly spread, are looked at), else 224; 32 for the digits.
        mean: three numbers on the scale where white is 1. None: of the training images if they are kept in
            memory, else ImageNet's.
        std: likewise, above 0.
        augment: one of `AUGMENTS`, or "auto": "shift" for the digits, "resized-crop" for images above 96
            pixels, "crop-flip" for the rest.
        num_classes: how many classes the caller counts on; None takes what there is.
        on_progress: called with (images decoded, images in all) while images are decoded into memory.
        workers: processes that decode images that are not kept in memory; 0 decodes in this one.

    Raises:
        ConfigError: an option that cannot be used.
        DataError: the data are missing, broken or do not fit.
    """
    if image_size is not None:
        check_image_size(image_size)
    given_mean = None if mean is None else check_triple("mean", mean)
    given_std = None if std is None else check_std(std)
    if augment not in ("auto", *AUGMENTS):
        raise ConfigError(f"augment must be one of auto, {', '.join(AUGMENTS)}; got '{augment}'")
    if workers < 0:
        raise ConfigError(f"workers must be 0 or more; got {workers}. 0 decodes in the main process")

    index = None if source == "digits" else find_source(source)
    seen = peek_digits() if index is None else _peek_index(index)
    check_classes(source, seen.classes, num_classes)
    size = image_size or seen.default_image_size
    in_memory = index is None or _fits_memory(seen, size)
    if augment == "auto":
        augment = "shift" if index is None else "resized-crop" if size > SMALL_SIDE else "crop-flip"
    if augment == "resized-crop" and in_memory:
        raise ConfigError(
            f"augment 'resized-crop' is made while decoding, and images of {size} pixels are decoded once; "
            f"use 'crop-flip', or an image_size above {SMALL_SIDE}"
        )

    train: Source
    val: Source
    if index is None:
        train, val = open_digits(size)
    else:
        train, val = _open_index(index, size, in_memory, workers, on_progress)
    found_mean, found_std = _statistics(train)
    spec = DataSpec(
        name=seen.name,
        classes=seen.classes,
        image_size=size,
        mean=given_mean or found_mean,
        std=given_std or found_std,
        augment=augment,
        train_images=len(train),
        val_images=len(val),
    )
    return DataSet(spec, train, val)


def find_source(source: str) -> Index:
    """List the files of a folder, in whichever of the two layouts it has."""
    root = Path(source)
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DataError(f"data '{source}' {what}; give 'digits' or a folder (see `ntksap list data`)")
    has_folders = (root / "train").is_dir()
    has_shards = any(root.glob("train-*.tar"))
    if has_folders and has_shards:
        raise DataError(f"'{source}' holds both train/ and train-*.tar; keep one of them")
    if has_folders:
        return read_folder(root)
    if has_shards:
        return read_shards(root)
    raise DataError(f"'{source}' holds no train/ and no train-*.tar; put images in train/CLASS/ and val/CLASS/")


def _peek_index(index: Index) -> Peek:
    return Peek(index.name, index.classes, _own_size(index), len(index.train), len(index.val))


def _own_size(index: Index) -> int | None:
    sizes: set[tuple[int, int]] = set()
    for files in (index.train, index.val):
        looked_at = min(_LOOKED_AT, len(files))
        sizes.update(measure(files, number * len(files) // looked_at) for number in range(looked_at))
    width, height = sizes.pop()
    return width if not sizes and width == height >= 8 else None


def _fits_memory(seen: Peek, size: int) -> bool:
    return size <= SMALL_SIDE and (seen.train_images + seen.val_images) * 3 * size**2 <= MEMORY_LIMIT_BYTES


def _open_index(
    index: Index, size: int, in_memory: bool, workers: int, on_progress: Callable[[int, int], None] | None
) -> tuple[Source, Source]:
    if not in_memory:
        return StreamSource(index.train, size, workers), StreamSource(index.val, size, workers)
    total = len(index.train) + len(index.val)
    done = 0

    def count(images: int) -> None:
        nonlocal done
        done += images
        if on_progress is not None:
            on_progress(done, total)

    return decode_all(index.train, size, count), decode_all(index.val, size, count)


def _statistics(train: Source) -> tuple[Triple, Triple]:
    if isinstance(train, MemorySource):
        return channel_statistics(train.images)
    return IMAGENET_MEAN, IMAGENET_STD
