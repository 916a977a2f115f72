"""Large data sets: images decoded when they are needed, by torch's worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch.utils.data import DataLoader, Dataset

from ntksap_export.data.augmentation import Augmentation
from ntksap_export.data.files import Files
from ntksap_export.data.images import decode, fit, random_crop
from ntksap_export.errors import DataError

_MARGIN = 256 / 224  # validation: the shorter side becomes size * 256/224 before the central crop

Batch = tuple[torch.Tensor, torch.Tensor]
Draw = tuple[int, int]  # position of an image, and how often the epoch had it before


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
        """What the part of one image is drawn from."""
        return Random(f"{self.key}/{index}/{turn}" if turn else f"{self.key}/{index}")


@dataclass(frozen=True, slots=True, eq=False)
class StreamSource:
    """Images that stay where they lie.

    Args:
        files: where.
        image_size: side S in pixels of what comes out.
        workers: processes that decode; 0 decodes in this one.
    """

    files: Files
    image_size: int
    workers: int = 0

    def __len__(self) -> int:
        return len(self.files)

    @property
    def labels(self) -> torch.Tensor:
        """int64 (N,), 0 to k-1."""
        return torch.from_numpy(self.files.labels)

    def take(self, indices: list[int]) -> torch.Tensor:
        """The images at these positions, without augmentation: uint8 (n, 3, S, S).

        Raises:
            DataError: one cannot be decoded.
        """
        return torch.stack([_decode(self.files, self.image_size, index, None) for index in indices])

    def batches(self, plan: Sequence[list[Draw]], crops: Crops | None, pin_memory: bool) -> Iterator[Batch]:
        """The images and labels of each batch of `plan`, in its order: uint8 (n, 3, S, S) and int64 (n,).

        Args:
            plan: of each batch the position of each image, and which time of the epoch it is drawn.
            crops: None takes the central square; else random parts, which depend on its key, the position and the
                time alone, not on workers or order.
            pin_memory: whether batches lie in page-locked memory, for a CUDA device.

        Raises:
            DataError: an image cannot be decoded.
        """
        loader = DataLoader(
            _Decoding(self.files, self.image_size, crops),
            batch_sampler=plan,
            num_workers=self.workers,
            collate_fn=_collate,
            pin_memory=pin_memory,
            generator=torch.Generator().manual_seed(0),  # else the caller's random state is drawn from
        )
        for outcome in loader:
            if isinstance(outcome, str):
                raise DataError(outcome)
            yield outcome


_Outcome = tuple[torch.Tensor, int] | str


class _Decoding(Dataset[_Outcome]):
    """Decoded images, or the message of the error: an exception would leave a worker as a traceback."""

    def __init__(self, files: Files, size: int, crops: Crops | None) -> None:
        self._files = files
        self._size = size
        self._crops = crops

    def __getitem__(self, draw: Draw) -> _Outcome:
        index, turn = draw
        try:
            return _decode(self._files, self._size, index, self._crops, turn), int(self._files.labels[index])
        except DataError as error:
            return str(error)


def _decode(files: Files, size: int, index: int, crops: Crops | None, turn: int = 0) -> torch.Tensor:
    image = decode(files, index)
    if crops is None:
        pixels = fit(image, size, _MARGIN)
    else:
        pixels = random_crop(image, size, crops.random(index, turn), crops.augment.crop_scale, crops.augment.crop_ratio)
    return torch.from_numpy(pixels).permute(2, 0, 1)  # (size, size, 3) -> (3, size, size)


def _collate(outcomes: list[_Outcome]) -> Batch | str:
    images, labels = [], []
    for outcome in outcomes:
        if isinstance(outcome, str):
            return outcome
        images.append(outcome[0])
        labels.append(outcome[1])
    return torch.stack(images), torch.tensor(labels, dtype=torch.int64)
