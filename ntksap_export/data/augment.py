"""Whole batches on their device: random moves, mirrors and cuts of bytes, then normalization.

Images are (N, 3, S, S) and lie as channels_last, pixel by pixel: a row of a crop is then one piece of memory.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

import torch

from ntksap_export.data.spec import Triple

_BLOCK: Final = 2**17  # values normalized at a time: 512 kB


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


def draw_moves(kind: str, count: int, size: int, key: str, device: torch.device) -> Moves | None:
    """Draw the moves of an epoch, on the CPU so that every device sees the same.

    Args:
        kind: as in `Augmentation`; None comes back for "none" and "resized-crop", which need no moves.
        count: number of images.
        size: side of the images in pixels.
        key: the draws depend on it, and on nothing else.
        device: where the moves are wanted.
    """
    if kind not in ("shift", "crop-flip"):
        return None
    random = generator(key)
    ends = 2 * (size // 8) + 1
    rows = torch.randint(ends, (count,), generator=random)
    columns = torch.randint(ends, (count,), generator=random)
    mirrored = torch.rand(count, generator=random) < (0.5 if kind == "crop-flip" else 0.0)
    return Moves(rows.to(device), columns.to(device), mirrored.to(device))


def move(images: torch.Tensor, moves: Moves) -> torch.Tensor:
    """Each image padded with S // 8 zeros a side, cropped back to S x S where `moves` says, maybe mirrored.

    The images and their mirror images are laid out padded; each row of a crop is then copied as one piece.

    Args:
        images: uint8 (N, 3, S, S); left as it is.
        moves: N of them, on the same device.

    Returns:
        uint8 (N, 3, S, S), channels_last.
    """
    count, _, size, _ = images.shape
    pad = size // 8
    side = size + 2 * pad
    pixels = images.permute(0, 2, 3, 1)  # (N, S, S, 3)
    padded = images.new_zeros((2 * count, side, side, 3))
    padded[:count, pad : pad + size, pad : pad + size] = pixels
    padded[count:, pad : pad + size, pad : pad + size] = pixels.flip(2)
    # Row r of the image in `padded` starts at pixel (image * side + r) * side + column; rows overlap in this view.
    pieces = padded.view(-1).as_strided((2 * count * side * side - size + 1, size * 3), (3, 1))
    image = torch.arange(count, device=images.device) + count * moves.mirrored
    columns = torch.where(moves.mirrored, 2 * pad - moves.columns, moves.columns)
    first = (image * side + moves.rows) * side + columns  # (N,)
    rows = first[:, None] + side * torch.arange(size, device=images.device)  # (N, S)
    return pieces.index_select(0, rows.view(-1)).view(count, size, size, 3).permute(0, 3, 1, 2)


def draw_holes(count: int, size: int, key: str, device: torch.device) -> torch.Tensor:
    """Draw the centres of an epoch's cutouts, on the CPU: int64 (count, 2), row and column, 0 to size - 1."""
    return torch.randint(size, (count, 2), generator=generator(key)).to(device)


def cut_out_(images: torch.Tensor, centres: torch.Tensor, side: int) -> None:
    """Set a square of each image to 0 (DeVries & Taylor, arXiv 1708.04552); what reaches over the edge is cut off.

    Args:
        images: float (N, 3, S, S), normalized; changed.
        centres: int64 (N, 2), row and column of each centre: the square begins side // 2 before it.
        side: of the square in pixels.
    """
    count, channels, size, _ = images.shape
    places = torch.arange(size, device=images.device)
    first = centres - side // 2  # (N, 2)
    inside = ((places >= first[..., None]) & (places < first[..., None] + side)).to(images.dtype)  # (N, 2, S)
    rows, columns = inside[:, 0, :, None], inside[:, 1, None, :]  # (N, S, 1) and (N, 1, S)
    if images.is_contiguous(memory_format=torch.channels_last):
        columns = columns.repeat_interleave(channels, dim=2)  # as the pixels lie: one long piece a row
        keep = torch.addcmul(images.new_ones(()), rows, columns, value=-1)
        images.permute(0, 2, 3, 1).view(count, size, size * channels).mul_(keep)
    else:
        images.mul_(torch.addcmul(images.new_ones(()), rows, columns, value=-1)[:, None])


class Normalizer:
    """(images / 255 - mean) / std as float32, per channel.

    Mean and deviation are laid out as an image once, so that batches are worked through in long pieces.

    Args:
        mean: on the scale where 255 is 1.
        std: on the same scale.
        device: of the images.
    """

    def __init__(self, mean: Triple, std: Triple, device: torch.device) -> None:
        self._mean = torch.tensor(mean, device=device).mul_(255)
        self._std = torch.tensor(std, device=device).mul_(255)
        self._tiles: tuple[torch.Tensor, torch.Tensor] | None = None

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Normalize (N, 3, S, S) of bytes, or of floats from 0 to 255; they are left as they are."""
        if not images.is_contiguous(memory_format=torch.channels_last):
            return images.to(torch.float32).sub(self._mean[:, None, None]).div_(self._std[:, None, None])
        flat = images.permute(0, 2, 3, 1).flatten(1)  # (N, S * S * 3)
        if self._tiles is None or len(self._tiles[0]) != flat.shape[1]:
            pixels = flat.shape[1] // 3
            self._tiles = self._mean.repeat(pixels), self._std.repeat(pixels)
        out = torch.empty(flat.shape, device=flat.device)
        # Few enough at a time that a CPU divides them while its cache still has them.
        count = max(1, _BLOCK // flat.shape[1]) if flat.device.type == "cpu" else len(flat)
        for block, into in zip(torch.split(flat, count), torch.split(out, count), strict=True):
            torch.sub(block, self._tiles[0], out=into).div_(self._tiles[1])  # bytes less floats are floats
        return out.view(len(images), *images.shape[2:], 3).permute(0, 3, 1, 2)


def normalize(images: torch.Tensor, mean: Triple, std: Triple) -> torch.Tensor:
    """As `Normalizer`, for images that are normalized once."""
    return Normalizer(mean, std, images.device)(images)
