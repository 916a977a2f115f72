"""Small data sets: every image decoded once, kept as bytes in memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from ntksap_export.data.arrays import ArrayFiles
from ntksap_export.data.broken import none_left, substitutes
from ntksap_export.data.files import Files
from ntksap_export.data.images import Pixels, decode, fit
from ntksap_export.data.spec import Triple
from ntksap_export.errors import DataError

MEMORY_LIMIT_BYTES = 2_000_000_000
_CHUNK = 500  # images per piece of work
_MAX_THREADS = 8
_VALUES = 2**24  # summed at a time: 64 MB as int32


@dataclass(frozen=True, slots=True, eq=False)
class MemorySource:
    """Decoded images.

    Args:
        images: uint8 (N, 3, S, S); channels_last, if it is not to be copied.
        labels: int64 (N,), 0 to k-1.
        skipped: what was wrong with each image that was replaced, by position; see `broken`.
    """

    images: torch.Tensor
    labels: torch.Tensor
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: list[int]) -> torch.Tensor:
        """The images at these positions, without augmentation: uint8 (n, 3, S, S)."""
        return self.images[indices]

    def close(self) -> None:
        """Nothing is held open."""


def decode_all(files: Files, size: int, on_done: Callable[[int], None], skip: bool = False) -> MemorySource:
    """Decode every image in threads (Pillow works outside the interpreter's lock).

    Args:
        files: where the images lie.
        size: side S in pixels; other images are scaled by their shorter side and cropped in the middle.
        on_done: called in this thread with the number of images newly done.
        skip: whether a broken image is replaced by another of its class, see `broken`.

    Raises:
        DataError: an image cannot be decoded; the first such one, whatever the threads did. With `skip`: none of a
            class can.
    """
    if isinstance(files, ArrayFiles) and files.pixels.shape[2:] == (size, size):
        on_done(len(files))
        decoded = torch.from_numpy(files.pixels).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        return MemorySource(decoded, torch.from_numpy(files.labels))
    images = torch.empty((len(files), 3, size, size), dtype=torch.uint8, memory_format=torch.channels_last)
    pixels: Pixels = images.permute(0, 2, 3, 1).numpy()  # the same memory
    threads = min(len(os.sched_getaffinity(0)), _MAX_THREADS)
    broken: dict[int, str] = {}
    with ThreadPoolExecutor(threads) as pool:
        starts = range(0, len(files), _CHUNK)
        futures = [pool.submit(_decode_chunk, files, size, start, pixels, skip) for start in starts]
        try:
            for start, future in zip(starts, futures, strict=True):
                broken |= future.result()
                on_done(min(_CHUNK, len(files) - start))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for index in broken:
        other = next((other for other in substitutes(files.labels, index) if other not in broken), None)
        if other is None:
            raise none_left(int(files.labels[index]), broken[index])
        pixels[index] = pixels[other]
    return MemorySource(images, torch.from_numpy(files.labels), tuple(broken.values()))


def _decode_chunk(files: Files, size: int, start: int, pixels: Pixels, skip: bool) -> dict[int, str]:
    """Decode some images; the positions of broken ones, and what is wrong with them."""
    broken = {}
    for index in range(start, min(start + _CHUNK, len(files))):
        try:
            pixels[index] = fit(decode(files, index), size)
        except DataError as error:
            if not skip:
                raise
            broken[index] = str(error)
    return broken


def channel_statistics(images: torch.Tensor) -> tuple[Triple, Triple]:
    """Mean and standard deviation of each channel, on the scale where 255 is 1, to six decimals.

    Sums are exact integers, so the result does not depend on threads or order. A constant channel has std 1.

    Args:
        images: uint8 (N, 3, S, S).
    """
    total = torch.zeros(3, dtype=torch.int64)
    squares = torch.zeros(3, dtype=torch.int64)
    for part in torch.split(images, max(1, _VALUES // images[0].numel())):
        wide = part.to(torch.int32)
        total += wide.sum(dim=(0, 2, 3))
        squares += wide.square_().sum(dim=(0, 2, 3))
    count = images.numel() // 3
    means, stds = [], []
    for first, second in zip(total.tolist(), squares.tolist(), strict=True):
        variance = (count * second - first * first) / count**2
        means.append(round(first / count / 255, 6))
        stds.append(round(variance**0.5 / 255, 6) or 1.0)
    return (means[0], means[1], means[2]), (stds[0], stds[1], stds[2])
