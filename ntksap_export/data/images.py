"""One image: from bytes of unknown quality to a square of RGB pixels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from ntksap_export.data.files import Files
from ntksap_export.errors import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # no format that starts another program

Pixels = npt.NDArray[np.uint8]


def measure(files: Files, index: int) -> tuple[int, int]:
    """Width and height in pixels of one image, from its header.

    Raises:
        DataError: as `decode`.
    """
    with opened(files, index) as image:
        return image.size


def decode(files: Files, index: int) -> Image.Image:
    """One image as RGB; gray is repeated, transparency is dropped.

    Raises:
        DataError: it cannot be read or decoded, is too large to be decoded safely, or has more than 8 bits a
            sample.
    """
    with opened(files, index) as image:
        return to_rgb(image)


@contextmanager
def opened(files: Files, index: int) -> Iterator[Image.Image]:
    """One image whose header was read and found harmless; what goes wrong inside is said of this image.

    Raises:
        DataError: as `decode`.
    """
    try:
        with Image.open(BytesIO(files.read(index)), formats=_FORMATS) as image:
            _refuse_bomb(image)
            yield image
    except Exception as error:  # Pillow lets out nearly every type on broken bytes, struct.error and SyntaxError too
        raise _broken(files.where(index), error) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Decode an open image to RGB."""
    if image.mode == "RGB":
        image.load()
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        raise DataError(f"has {image.mode} samples; convert it to 8 bits per channel")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def fit(image: Image.Image, size: int, margin: float = 1.0) -> Pixels:
    """The central square of an image as (size, size, 3) pixels; one already size x size is left as it is.

    Args:
        image: RGB.
        size: side of the result in pixels.
        margin: how much longer than `size` the shorter side would be before the crop; 256/224 is usual for
            large images, 1 keeps the whole shorter side.
    """
    width, height = image.size
    if (width, height) == (size, size):
        return np.array(image)
    side = min(width, height) / margin
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    return np.array(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


def _refuse_bomb(image: Image.Image) -> None:
    """Pillow only warns up to twice its limit, and warning filters are not safe in threads: ask ourselves."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise DataError(
            f"has {image.width} x {image.height} pixels, above the limit of {limit}; shrink it or take it out"
        )


def _broken(where: str, error: Exception) -> DataError:
    if isinstance(error, DataError):
        return DataError(f"image '{where}' {error}")
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return DataError(f"image '{where}' has too many pixels to be decoded safely; shrink it or take it out")
    unknown = isinstance(error, UnidentifiedImageError)
    reason = "not an image of a known format" if unknown else " ".join(str(error).split())
    return DataError(f"image '{where}' cannot be decoded ({reason or type(error).__name__}); replace it or take it out")
