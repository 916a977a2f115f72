"""How a data set is to be opened: the options of `open_data`, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

from ntksap_export.data.augmentation import CROP_RATIO, CROP_SCALE, Augmentation, Span
from ntksap_export.data.broken import BrokenImages
from ntksap_export.data.spec import SMALL_SIDE, check_image_size, check_std, check_triple
from ntksap_export.data.table import DATA_SETS
from ntksap_export.errors import ConfigError


class OpenOptions(TypedDict, total=False):
    """The keywords of `open_data` and `loaders` beside `image_size`; what they mean stands at `Options`."""

    mean: Sequence[float] | None
    std: Sequence[float] | None
    augment: str
    cutout: int
    crop_scale: Span
    crop_ratio: Span
    repeats: int
    num_classes: int | None
    workers: int
    data_dir: str | Path | None
    download: bool
    broken_images: BrokenImages


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller asks of a data set.

    Args:
        image_size: side in pixels, at least 8. None: the images' own if they are square, equal and at most 96
            pixels (64 of each split, evenly spread, are looked at), else 224; 32 for the digits.
        mean: three numbers on the scale where white is 1. None: the table's for a data set of the table; else of the
            training images if they are kept in memory, or ImageNet's.
        std: likewise, above 0.
        augment: kind of augmentation, one of `AUGMENTS` or "auto"; it and the next four as in `Augmentation`.
        cutout: side in pixels.
        crop_scale: shares of the area.
        crop_ratio: width / height.
        repeats: of an image in an epoch.
        num_classes: how many classes the caller counts on; None takes what there is.
        workers: processes that decode images that are not kept in memory; 0 decodes in this one.
        data_dir: where the data sets of the table lie; None: NTKSAP_DATA of the environment, or ~/.cache/ntksap.
        download: whether a data set of the table that is not there is fetched.
        broken_images: "error", or "skip": replaced by another image of the class, see `broken`.

    Raises:
        ConfigError: a value that cannot be used.
    """

    image_size: int | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    augment: str = "auto"
    cutout: int = 0
    crop_scale: Span = CROP_SCALE
    crop_ratio: Span = CROP_RATIO
    repeats: int = 1
    num_classes: int | None = None
    workers: int = 0
    data_dir: str | Path | None = None
    download: bool = False
    broken_images: BrokenImages = "error"

    def __post_init__(self) -> None:
        if self.image_size is not None:
            check_image_size(self.image_size)
        if self.mean is not None:
            check_triple("mean", self.mean)
        if self.std is not None:
            check_std(self.std)
        if self.broken_images not in ("error", "skip"):
            raise ConfigError(f"broken_images must be error or skip; got '{self.broken_images}'")
        _ = self.augmentation
        if self.workers < 0:
            raise ConfigError(f"workers must be 0 or more; got {self.workers}. 0 decodes in the main process")

    @property
    def augmentation(self) -> Augmentation:
        """What training images are to go through, as one value."""
        return Augmentation(self.augment, self.cutout, self.crop_scale, self.crop_ratio, self.repeats)


def resolve_augmentation(source: str, image_size: int, asked: Augmentation) -> Augmentation:
    """The augmentation that is used: for "auto" the table's, else "resized-crop" above 96 pixels, else "crop-flip".

    Args:
        source: as for `open_data`.
        image_size: side in pixels of the model's input.
        asked: what the caller asks for.

    Raises:
        ConfigError: what is asked for does not fit the images or the kind.
    """
    if asked.cutout > image_size:
        raise ConfigError(f"cutout {asked.cutout} is larger than images of {image_size} pixels; use less than half")
    if asked.kind != "auto":
        return asked
    known = DATA_SETS.get(source)
    if known is not None:
        return replace(asked, kind=known.augment)
    return replace(asked, kind="resized-crop" if image_size > SMALL_SIDE else "crop-flip")
