"""`resized-crop` while an image is decoded: a random part of it, at the size that the model takes.

Szegedy et al., "Going deeper with convolutions", CVPR 2015, section 6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from ntksap_export.data.augmentation import Augmentation
from ntksap_export.data.files import Files
from ntksap_export.data.images import Pixels, opened, to_rgb

_ATTEMPTS: Final = 10  # to find a box that fits, as everybody's RandomResizedCrop

Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Crops:
    """The random parts that an epoch takes of its images.

    Args:
        key: of seed and epoch.
        augment: how large they are.
    """

    key: str
    augment: Augmentation

    def random(self, index: int, turn: int) -> Random:
        """What the part of one image is drawn from.

        Args:
            index: position of the image in its source.
            turn: how often the epoch had it before.
        """
        return Random(f"{self.key}/{index}/{turn}" if turn else f"{self.key}/{index}")

    def cut(self, files: Files, index: int, size: int, random: Random) -> Pixels:
        """Decode an image and take a random part of it.

        Returns:
            uint8 (size, size, 3).

        Raises:
            DataError: it cannot be decoded.
        """
        with opened(files, index) as image:
            width, height = image.size
            box = draw_box(width, height, random, self.augment)
            shrunk = _shrink(image, box, size)
            rgb = to_rgb(image)
        if shrunk > 1:
            box = _shrunk_box(box, rgb.width / width, rgb.height / height)
        return resize(rgb.crop(box), size, mirrored=random.random() < 0.5)


def draw_box(width: int, height: int, random: Random, augment: Augmentation) -> Box:
    """A random box in an image: share of its area and shape (log-uniform) as `augment` says.

    Of ten boxes the first that fits is taken; if none does, the central square.
    """
    low, high = (math.log(bound) for bound in augment.crop_ratio)
    for _ in range(_ATTEMPTS):
        area = width * height * random.uniform(*augment.crop_scale)
        shape = math.exp(random.uniform(low, high))
        wide, tall = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < wide <= width and 0 < tall <= height:
            left, top = random.randint(0, width - wide), random.randint(0, height - tall)
            return left, top, left + wide, top + tall
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def resize(image: Image.Image, size: int, mirrored: bool = False) -> Pixels:
    """An RGB image as (size, size, 3) pixels, bilinear with anti-aliasing; torch does it several times faster."""
    pixels = torch.from_numpy(np.array(image))[None].permute(0, 3, 1, 2)  # (1, 3, H, W), channels_last
    if image.size != (size, size):
        pixels = functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    if mirrored:
        pixels = pixels.flip(3)
    return pixels[0].permute(1, 2, 0).numpy()


def _shrink(image: Image.Image, box: Box, size: int) -> int:
    """Have a JPEG decoded at 1/2, 1/4 or 1/8, where the box stays at least `size` pixels: a part of the work.

    Returns:
        By how much it is shrunk; 1 for other formats.
    """
    room = min(box[2] - box[0], box[3] - box[1]) // size
    factor = next((factor for factor in (8, 4, 2) if room >= factor), 1)
    if factor == 1 or image.format != "JPEG":
        return 1
    image.draft("RGB", (image.width // factor, image.height // factor))
    return factor


def _shrunk_box(box: Box, across: float, down: float) -> Box:
    left, top = int(box[0] * across), int(box[1] * down)
    return left, top, max(round(box[2] * across), left + 1), max(round(box[3] * down), top + 1)
