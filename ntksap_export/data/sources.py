"""From what the user names, a data set of the table or a folder, to a `DataSet`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from ntksap_export.data.broken import BrokenImages
from ntksap_export.data.digits import open_digits, peek_digits
from ntksap_export.data.files import Index
from ntksap_export.data.find import find_source
from ntksap_export.data.images import measure
from ntksap_export.data.memory import MEMORY_LIMIT_BYTES, MemorySource, channel_statistics, decode_all
from ntksap_export.data.options import OpenOptions, Options, resolve_augmentation
from ntksap_export.data.spec import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    SMALL_SIDE,
    DataSpec,
    Peek,
    Triple,
    check_classes,
    check_std,
    check_triple,
)
from ntksap_export.data.stream import StreamSource
from ntksap_export.data.table import DATA_SETS
from ntksap_export.errors import DataError

_LOOKED_AT = 64  # images of each split whose size is looked at

_FORMS = (
    ("FOLDER", "train/CLASS/*.jpg (or .png, .webp, ...) and val/CLASS/* or test/CLASS/*"),
    ("FOLDER", "WebDataset shards: train-*.tar and val-*.tar or test-*.tar of KEY.jpg + KEY.cls; classes.txt"),
    ("FOLDER", "Hugging Face, extra `hf`: a DatasetDict of save_to_disk, or train-*.parquet and test-*.parquet"),
    ("PATTERN", "WebDataset shards by name, as 'DIR/{train,val}-{000..012}.tar' (quoted, for the shell)"),
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

    @property
    def skipped(self) -> tuple[str, ...]:
        """What was wrong with each broken image that was replaced so far."""
        return self.train.skipped + self.val.skipped


def describe_sources() -> tuple[tuple[str, str], ...]:
    """What `open_data` takes: pairs of name and one line of text."""
    named = tuple(
        (
            name,
            f"{item.summary}; {item.classes} classes, {item.image_size}x{item.image_size}, {item.augment}"
            + (f"; {item.layout}" if item.layout else ""),
        )
        for name, item in DATA_SETS.items()
    )
    return named + _FORMS


def peek(
    source: str, data_dir: str | Path | None = None, download: bool = False, broken_images: BrokenImages = "error"
) -> Peek:
    """Look at a source without decoding it: names, counts, and the size of a few images.

    Args:
        source: as for `open_data`.
        data_dir: as in `Options`.
        download: as in `Options`.
        broken_images: as in `Options`.

    Raises:
        ConfigError, UnavailableError: it is to be downloaded and cannot be.
        DataError: it cannot be used.
    """
    return (
        peek_digits()
        if source == "digits"
        else _peek_index(find_source(source, data_dir, download), broken_images == "skip")
    )


def open_data(
    source: str,
    *,
    image_size: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    **options: Unpack[OpenOptions],
) -> DataSet:
    """Open a data set.

    Images of at most 96 pixels a side that fit 2 GB are decoded now and kept; others batch by batch.

    Args:
        source: a name of the table or a folder: see `describe_sources`.
        image_size: see `Options`.
        on_progress: called with (images decoded, images in all) while images are decoded into memory.
        options: see `Options`.

    Raises:
        ConfigError: an option that cannot be used.
        UnavailableError: a library that is needed is not installed.
        DataError: the data are missing, broken or do not fit.
    """
    asked = Options(image_size, **options)
    index = None if source == "digits" else find_source(source, asked.data_dir, asked.download)
    seen = peek_digits() if index is None else _peek_index(index, asked.broken_images == "skip")
    check_classes(source, seen.classes, asked.num_classes)
    size = asked.image_size or seen.default_image_size
    in_memory = index is None or _fits_memory(seen, size)
    augment = resolve_augmentation(source, size, asked.augmentation)

    train: Source
    val: Source
    if index is None:
        train, val = open_digits(size)
    else:
        train, val = _open_index(index, size, in_memory, asked, on_progress)
    mean, std = _statistics(source, asked, train)
    spec = DataSpec(
        name=seen.name,
        classes=seen.classes,
        image_size=size,
        mean=mean,
        std=std,
        augment=augment,
        train_images=len(train),
        val_images=len(val),
    )
    return DataSet(spec, train, val)


def _peek_index(index: Index, skip: bool) -> Peek:
    return Peek(index.name, index.classes, _own_size(index, skip), len(index.train), len(index.val))


def _own_size(index: Index, skip: bool) -> int | None:
    sizes: set[tuple[int, int]] = set()
    for files in (index.train, index.val):
        looked_at = min(_LOOKED_AT, len(files))
        for number in range(looked_at):
            try:
                sizes.add(measure(files, number * len(files) // looked_at))
            except DataError:
                if not skip:
                    raise
    width, height = sizes.pop() if sizes else (0, 0)
    return width if not sizes and width == height >= 8 else None


def _fits_memory(seen: Peek, size: int) -> bool:
    return size <= SMALL_SIDE and (seen.train_images + seen.val_images) * 3 * size**2 <= MEMORY_LIMIT_BYTES


def _open_index(
    index: Index, size: int, in_memory: bool, asked: Options, on_progress: Callable[[int, int], None] | None
) -> tuple[Source, Source]:
    skip = asked.broken_images == "skip"
    if not in_memory:
        train, val = (StreamSource(files, size, asked.workers, skip) for files in (index.train, index.val))
        return train, val
    total = len(index.train) + len(index.val)
    done = 0

    def count(images: int) -> None:
        nonlocal done
        done += images
        if on_progress is not None:
            on_progress(done, total)

    return decode_all(index.train, size, count, skip), decode_all(index.val, size, count, skip)


def _statistics(source: str, asked: Options, train: Source) -> tuple[Triple, Triple]:
    """Mean and standard deviation: the caller's, else the table's, else found, else ImageNet's."""
    if asked.mean is not None and asked.std is not None:
        return check_triple("mean", asked.mean), check_std(asked.std)
    known = DATA_SETS.get(source)
    if known is not None and known.mean is not None and known.std is not None:
        mean, std = known.mean, known.std
    elif isinstance(train, MemorySource):
        mean, std = channel_statistics(train.images)
    else:
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    return (
        mean if asked.mean is None else check_triple("mean", asked.mean),
        std if asked.std is None else check_std(asked.std),
    )
