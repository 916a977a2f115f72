"""Batches for training and judging: normalized images and labels, the same again for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Unpack

import torch

from ntksap_export.data.augment import draw_moves, generator, move, normalize
from ntksap_export.data.memory import MemorySource
from ntksap_export.data.options import OpenOptions
from ntksap_export.data.plan import Plan
from ntksap_export.data.sources import DataSet, Source, open_data
from ntksap_export.data.spec import DataSpec
from ntksap_export.data.stream import Batch
from ntksap_export.errors import ConfigError


class Loader:
    """Iterates over the batches of one epoch: float32 (N, 3, S, S) normalized and int64 (N,), on `device`.

    Order and augmentation depend on (seed, epoch, train) alone. No global random state is read or changed, so
    a resumed run that says `set_epoch(7)` sees epoch 7 as it was, and `batches(40)` goes on at its batch 40.
    Without `set_epoch` every pass is epoch 0.

    Of several processes each makes a loader with its own `part`; how `Plan` says. In training a last batch too small
    for BatchNorm is dropped; otherwise every image appears once an epoch. Validation is in order.

    Args:
        source: the images.
        spec: what they are.
        batch_size: images per batch over all processes, at least 1.
        train: whether to shuffle.
        seed: any whole number.
        device: where batches are wanted; decoded images are moved there once.
        augment: whether to do what `spec.augment` says.
        memory_format: `torch.channels_last` or `torch.contiguous_format`.
        part: this process's rank and the number of processes.

    Raises:
        ConfigError: a batch size below 1, or one that cannot be divided over the processes.
        DataError: too few images for so many processes; while iterating, an image that cannot be decoded.
    """

    def __init__(
        self,
        source: Source,
        spec: DataSpec,
        batch_size: int,
        *,
        train: bool,
        seed: int,
        device: torch.device | str = "cpu",
        augment: bool = False,
        memory_format: torch.memory_format = torch.contiguous_format,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self.source = source
        self.spec = spec
        self.batch_size = batch_size
        self.train = train
        self.device = torch.device(device)
        self._plan = Plan(len(source), batch_size, train, part)
        self._seed = seed
        self._epoch = 0
        self._augment = spec.augment if augment else "none"
        self._memory_format = memory_format
        self._resident: MemorySource | None = None  # the decoded images on the device

    def __len__(self) -> int:
        return len(self._plan)

    def global_images(self, number: int) -> int:
        """How many images batch `number` of this loader has over all processes; a validation batch is whole in one."""
        return self._plan.images(number)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass goes through: 0, 1, ..."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        return self.batches()

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """The batches of the epoch from number `start` on, as a full pass has them; those before are not decoded."""
        key = f"{self._seed}/{self._epoch}/{'train' if self.train else 'val'}"
        count = len(self.source)
        order = torch.arange(count)
        if self.train:
            order = torch.randperm(count, generator=generator(f"{key}/order"))
        moves = draw_moves(self._augment, count, self.spec.image_size, f"{key}/moves", self.device)
        plan = [self._plan.places(number) for number in range(start, len(self))]
        raw = self._raw([order[places] for places in plan], f"{key}/crop")
        for places, (images, labels) in zip(plan, raw, strict=True):
            if moves is not None:
                images = move(images, moves.part(places))
            ready = normalize(images, self.spec.mean, self.spec.std)
            yield ready.contiguous(memory_format=self._memory_format), labels

    def _raw(self, plan: Sequence[torch.Tensor], crop_key: str) -> Iterator[Batch]:
        """The bytes and labels of each batch, on the device."""
        if isinstance(self.source, MemorySource):
            if self._resident is None:
                images, labels = self.source.images.to(self.device), self.source.labels.to(self.device)
                self._resident = MemorySource(images, labels)
            for chosen in plan:
                here = chosen.to(self.device)
                yield self._resident.images[here], self._resident.labels[here]
            return
        crops = crop_key if self._augment == "resized-crop" else None
        lists = [chosen.tolist() for chosen in plan]
        for images, labels in self.source.batches(lists, crops, pin_memory=self.device.type == "cuda"):
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)


@dataclass(frozen=True, slots=True, eq=False)
class Loaders:
    """A data set ready to be trained on.

    Args:
        spec: what the images are.
        train: shuffled and augmented.
        val: in order and as they are.
    """

    spec: DataSpec
    train: Loader
    val: Loader


def make_loaders(
    dataset: DataSet,
    batch_size: int = 128,
    seed: int = 0,
    device: torch.device | str = "cpu",
    memory_format: torch.memory_format = torch.contiguous_format,
    part: tuple[int, int] = (0, 1),
) -> Loaders:
    """Make the two loaders of an open data set.

    Args:
        dataset: from `open_data`.
        batch_size: images per batch over all processes, at least 1.
        seed: of order and augmentation.
        device: where batches are wanted.
        memory_format: of the images.
        part: this process's rank and the number of processes.

    Raises:
        ConfigError: a batch size below 1, or one that cannot be divided over the processes.
        DataError: too few training images for so many processes.
    """
    spec = dataset.spec
    train = Loader(
        dataset.train,
        spec,
        batch_size,
        train=True,
        seed=seed,
        device=device,
        augment=True,
        memory_format=memory_format,
        part=part,
    )
    val = Loader(
        dataset.val, spec, batch_size, train=False, seed=seed, device=device, memory_format=memory_format, part=part
    )
    return Loaders(spec, train, val)


def loaders(
    source: str,
    batch_size: int = 128,
    image_size: int | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
    part: tuple[int, int] = (0, 1),
    **options: Unpack[OpenOptions],
) -> Loaders:
    """Open a data set and make its loaders: `train(model, mask, data.loaders("digits"), config)`.

    Args and errors are those of `open_data` and `make_loaders`.
    """
    dataset = open_data(source, image_size=image_size, on_progress=on_progress, **options)
    return make_loaders(dataset, batch_size, seed, device, memory_format, part)


def sample_images(data: DataSet | Loaders, count: int) -> torch.Tensor:
    """A few normalized validation images, always the same, spread evenly so that no class stands alone.

    Args:
        data: an open data set or its loaders.
        count: how many, at least 1; above the number of validation images they repeat.

    Returns:
        float32 (count, 3, S, S) on the CPU.

    Raises:
        ConfigError: a count below 1.
        DataError: an image cannot be decoded.
    """
    if count < 1:
        raise ConfigError(f"the number of sample images must be at least 1; got {count}")
    source = data.val.source if isinstance(data, Loaders) else data.val
    total = len(source)
    chosen = [number * total // count if count <= total else number % total for number in range(count)]
    return normalize(source.take(chosen), data.spec.mean, data.spec.std)
