"""The embedded data: 1,797 real handwritten digits of 8 x 8 pixels, so that everything can be tried at once.

E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998
(digits.LICENSE.txt). The split is fixed: within each class every fifth image is for validation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from ntksap_export.data.files import Labels
from ntksap_export.data.images import Pixels
from ntksap_export.data.memory import MEMORY_LIMIT_BYTES, MemorySource
from ntksap_export.data.spec import Peek
from ntksap_export.errors import ConfigError

DIGITS_SIZE = 32  # pixels; the side the 8 x 8 images are enlarged to by default
_FILE = Path(__file__).with_name("digits.npz")
_CHUNK = 256  # images enlarged at a time, in float32


def peek_digits() -> Peek:
    """Names and counts of the digits."""
    _, labels = read_digits()
    held_out = int(_held_out(labels).sum())
    return Peek("digits", tuple(str(digit) for digit in range(10)), DIGITS_SIZE, len(labels) - held_out, held_out)


def open_digits(image_size: int) -> tuple[MemorySource, MemorySource]:
    """The training and the validation digits as (N, 3, S, S), white on black, enlarged bilinearly.

    Args:
        image_size: S, at least 8.

    Raises:
        ConfigError: at this size they would take more than 2 GB.
    """
    images, labels = read_digits()
    size_bytes = len(labels) * 3 * image_size**2
    if size_bytes > MEMORY_LIMIT_BYTES:
        raise ConfigError(f"image_size {image_size} makes the digits {size_bytes:,} bytes; use 512 or less")
    held_out = _held_out(labels)
    return _enlarge(images, labels, ~held_out, image_size), _enlarge(images, labels, held_out, image_size)


def read_digits() -> tuple[Pixels, Labels]:
    """The data as they are: uint8 (1797, 8, 8) of 0 (paper) to 16 (ink), and int64 (1797,) of 0 to 9."""
    with np.load(_FILE, allow_pickle=False) as archive:
        return archive["images"], archive["labels"].astype(np.int64)


def _held_out(labels: Labels) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """True for the fifth, tenth, ... image of each class."""
    mask = np.zeros(len(labels), dtype=np.bool_)
    for digit in range(10):
        mask[np.flatnonzero(labels == digit)[4::5]] = True
    return mask


def _enlarge(
    images: Pixels, labels: Labels, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]], size: int
) -> MemorySource:
    gray = torch.from_numpy(images[chosen])[:, None]  # (N, 1, 8, 8)
    out = torch.empty((len(gray), 3, size, size), dtype=torch.uint8, memory_format=torch.channels_last)
    for start in range(0, len(gray), _CHUNK):
        part = gray[start : start + _CHUNK].to(torch.float32) * (255 / 16)
        part = F.interpolate(part, size=(size, size), mode="bilinear", align_corners=False)
        out[start : start + _CHUNK] = part.round().to(torch.uint8)  # the one channel is repeated
    return MemorySource(out, torch.from_numpy(labels[chosen]))
