"""`resized-crop` for images that lie decoded on a device: random parts of a whole batch, enlarged at once."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch.nn import functional

from ntksap_export.data.augment import generator
from ntksap_export.data.augmentation import Span

_ATTEMPTS = 10  # to find a box that fits, as for single images


class Boxes(NamedTuple):
    """Which part of each image of an epoch is taken.

    Attributes:
        corners: int64 (N, 2), left and top in pixels.
        sides: int64 (N, 2), width and height in pixels.
        mirrored: bool (N,).
    """

    corners: torch.Tensor
    sides: torch.Tensor
    mirrored: torch.Tensor

    def part(self, places: slice) -> Boxes:
        """The boxes of the images at these places of the epoch's order."""
        return Boxes(self.corners[places], self.sides[places], self.mirrored[places])


def draw_boxes(count: int, size: int, scale: Span, ratio: Span, key: str, device: torch.device) -> Boxes:
    """Draw the boxes of an epoch, on the CPU so that every device sees the same.

    Of ten boxes the first that fits is taken; if none does, the whole image.

    Args:
        count: number of images.
        size: side of the images in pixels.
        scale: smallest and largest share of the area.
        ratio: smallest and largest width / height, log-uniform between.
        key: the draws depend on it, and on nothing else.
        device: where the boxes are wanted.
    """
    random = generator(key)
    sides = torch.full((count, 2), size)
    open_ = torch.ones(count, dtype=torch.bool)
    for _ in range(_ATTEMPTS):
        area = torch.empty(count, dtype=torch.float64).uniform_(*scale, generator=random).mul_(size**2)
        shape = torch.empty(count, dtype=torch.float64)
        shape.uniform_(math.log(ratio[0]), math.log(ratio[1]), generator=random).exp_()
        tried = torch.stack(((area * shape).sqrt(), (area / shape).sqrt()), dim=1).round().long()  # (N, 2)
        fits = open_ & (tried >= 1).all(dim=1) & (tried <= size).all(dim=1)
        sides[fits] = tried[fits]
        open_ &= ~fits
    room = size - sides + 1
    corners = (torch.rand((count, 2), generator=random, dtype=torch.float64) * room).long()
    mirrored = torch.rand(count, generator=random) < 0.5
    return Boxes(corners.to(device), sides.to(device), mirrored.to(device))


def recut(images: torch.Tensor, boxes: Boxes) -> torch.Tensor:
    """The boxes of the images enlarged to S x S, bilinearly between pixel centres, maybe mirrored.

    Args:
        images: uint8 (N, 3, S, S); left as it is.
        boxes: N of them, on the same device.

    Returns:
        float32 (N, 3, S, S) from 0 to 255.
    """
    size = images.shape[-1]
    steps = (torch.arange(size, device=images.device) + 0.5) / size  # (S,), where in the box
    across = torch.where(boxes.mirrored[:, None], 1 - steps, steps)  # (N, S)
    x = boxes.corners[:, :1] + boxes.sides[:, :1] * across
    y = boxes.corners[:, 1:] + boxes.sides[:, 1:] * steps
    shape = (len(images), size, size)
    # grid_sample counts from -1 to 1 between the outer edges.
    grid = torch.stack((x[:, None, :].expand(shape), y[:, :, None].expand(shape)), dim=3).mul_(2 / size).sub_(1)
    return functional.grid_sample(
        images.to(torch.float32), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
