"""What a data set is, in numbers: its `DataSpec`, the cheap look before it (`Peek`), and their checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ntksap_export.data.augmentation import AUGMENTS, Augmentation
from ntksap_export.errors import ConfigError, DataError

SMALL_SIDE = 96  # pixels; images up to this side keep their own size, and may live decoded in memory
MAX_CLASSES = 1_000_000  # a label beyond this is a mistake, and would make that many class names
LARGE_SIDE = 224  # pixels; the default side for everything else
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Triple = tuple[float, float, float]


class Peek(NamedTuple):
    """What a source holds, found without decoding it.

    Attributes:
        name: "digits", or the name of the folder.
        classes: class names; the position is the label.
        own_size: side in pixels if the images looked at are all square and equal, else None.
            For "digits" 32, the side they are enlarged to when nothing else is asked for.
        train_images: number of training images.
        val_images: number of validation images.
    """

    name: str
    classes: tuple[str, ...]
    own_size: int | None
    train_images: int
    val_images: int

    @property
    def default_image_size(self) -> int:
        """The side, in pixels, that `open_data` takes when none is given."""
        return self.own_size if self.own_size is not None and self.own_size <= SMALL_SIDE else LARGE_SIDE


@dataclass(frozen=True, slots=True)
class DataSpec:
    """What a model and a loader must know of a data set.

    Args:
        name: "digits", or the name of the folder; never a path.
        classes: class names; the position is the label. At least 2.
        image_size: side S in pixels of the (3, S, S) images, at least 8.
        mean: per channel, on the scale where a white pixel is 1.
        std: per channel, on the same scale, above 0.
        augment: what training images go through; not "auto".
        train_images: number of training images.
        val_images: number of validation images.

    Raises:
        ConfigError: a size, a mean, a std or an augment that cannot be used.
        DataError: fewer than 2 classes.
    """

    name: str
    classes: tuple[str, ...]
    image_size: int
    mean: Triple
    std: Triple
    augment: Augmentation
    train_images: int
    val_images: int

    def __post_init__(self) -> None:
        check_image_size(self.image_size)
        check_triple("mean", self.mean)
        check_std(self.std)
        if self.augment.kind == "auto":
            raise ConfigError("augment 'auto' must be resolved; use one of " + ", ".join(AUGMENTS))
        check_classes(self.name, self.classes, None)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)


def check_image_size(image_size: int) -> None:
    """Check that a model can be fed images of this side.

    Raises:
        ConfigError: it is below 8.
    """
    if image_size < 8:
        raise ConfigError(f"image_size must be at least 8 pixels; got {image_size}. 32 and 224 are usual")


def check_triple(name: str, values: Sequence[float]) -> Triple:
    """Return `values` as three floats, one per channel.

    Raises:
        ConfigError: there are not three, or one is not finite.
    """
    if len(values) != 3:
        raise ConfigError(f"{name} must be 3 numbers, one per channel; got {len(values)}. Repeat a gray value")
    if not all(math.isfinite(value) for value in values):
        raise ConfigError(f"{name} must be finite; got {tuple(values)}")
    first, second, third = (float(value) for value in values)
    return first, second, third


def check_std(values: Sequence[float]) -> Triple:
    """Return `values` as three standard deviations.

    Raises:
        ConfigError: there are not three, or one is not above 0.
    """
    triple = check_triple("std", values)
    if min(triple) <= 0:
        raise ConfigError(f"std must be above 0 in every channel; got {triple}. Leave it out to have it found")
    return triple


def check_classes(name: str, classes: Sequence[str], num_classes: int | None) -> None:
    """Check that there is something to tell apart, and that it is as many classes as the caller counts on.

    Raises:
        DataError: fewer than 2 classes, or a `num_classes` that is not their number.
    """
    if len(classes) < 2:
        raise DataError(f"'{name}' has {len(classes)} class(es); a classifier needs at least 2")
    if num_classes is not None and num_classes != len(classes):
        raise DataError(
            f"the data has {len(classes)} classes; got --num-classes {num_classes}. "
            f"Leave it out, or write --num-classes {len(classes)}"
        )
