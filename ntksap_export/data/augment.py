"""Whole batches on their device: random moves and mirrors of bytes, then normalization."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import torch
from torch.nn import functional as F

from ntksap_export.data.spec import Triple


class Moves(NamedTuple):
    """What happens to each image of an epoch.

    Attributes:
        rows: int64 (N,), first row of the crop in the padded image, 0 to 2 * (S // 8).
        columns: int64 (N,), first column, same range.
        mirrored: bool (N,).
    """

    rows: torch.Tensor
    columns: torch.Tensor
    mirrored: torch.Tensor

    def part(self, places: slice) -> Moves:
        """The moves of the images at these places of the epoch's order."""
        return Moves(self.rows[places], self.columns[places], self.mirrored[places])


def generator(key: str) -> torch.Generator:
    """A random generator on the CPU that depends on `key` alone."""
    return torch.Generator().manual_seed(seed_of(key))


def seed_of(key: str) -> int:
    """A seed in [0, 2**63) that depends on `key` alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


def draw_moves(augment: str, count: int, size: int, key: str, device: torch.device) -> Moves | None:
    """Draw the moves of an epoch, on the CPU so that every device sees the same.

    Args:
        augment: as in `DataSpec`; None comes back for "none" and "resized-crop", which need no moves.
        count: number of images.
        size: side of the images in pixels.
        key: the draws depend on it, and on nothing else.
        device: where the moves are wanted.
    """
    if augment not in ("shift", "crop-flip"):
        return None
    random = generator(key)
    ends = 2 * (size // 8) + 1
    rows = torch.randint(ends, (count,), generator=random)
    columns = torch.randint(ends, (count,), generator=random)
    mirrored = torch.rand(count, generator=random) < (0.5 if augment == "crop-flip" else 0.0)
    return Moves(rows.to(device), columns.to(device), mirrored.to(device))


def move(images: torch.Tensor, moves: Moves) -> torch.Tensor:
    """Each image padded with S // 8 zeros a side, cropped back to S x S where `moves` says, maybe mirrored.

    Args:
        images: uint8 (N, 3, S, S); left as it is.
        moves: N of them, on the same device.
    """
    size = images.shape[-1]
    pad = size // 8
    padded = F.pad(images, (pad, pad, pad, pad))
    windows = padded.unfold(2, size, 1).unfold(3, size, 1)  # a view, (N, 3, 2 pad + 1, 2 pad + 1, S, S)
    image = torch.arange(len(images), device=images.device)
    cropped = windows[image, :, moves.rows, moves.columns]  # (N, 3, S, S)
    return torch.where(moves.mirrored[:, None, None, None], cropped.flip(3), cropped)


def normalize(images: torch.Tensor, mean: Triple, std: Triple) -> torch.Tensor:
    """(images / 255 - mean) / std as float32, per channel.

    Args:
        images: uint8 (N, 3, S, S); left as it is.
        mean: on the scale where 255 is 1.
        std: on the same scale.
    """
    channel_mean = torch.tensor(mean, device=images.device).mul_(255)[:, None, None]
    channel_std = torch.tensor(std, device=images.device).mul_(255)[:, None, None]
    return images.to(torch.float32).sub_(channel_mean).div_(channel_std)
