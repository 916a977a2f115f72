"""Batches for training and judging: normalized images and labels, the same again for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Unpack

import torch

from ntksap_export.data.ahead import on_device
from ntksap_export.data.augment import Normalizer, normalize
from ntksap_export.data.augmentation import Augmentation
from ntksap_export.data.broken import skipped_text
from ntksap_export.data.crops import Crops
from ntksap_export.data.draws import draw, draw_order
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
        self._augment = spec.augment if augment else Augmentation("none")
        self._memory_format = memory_format
        self._normalize = Normalizer(spec.mean, spec.std, self.device)
        self._resident: tuple[torch.Tensor, torch.Tensor] | None = None  # decoded images and labels on the device

    def __len__(self) -> int:
        return len(self._plan)

    def global_images(self, number: int) -> int:
        """How many images batch `number` of this loader has over all processes; a validation batch is whole in one."""
        return self._plan.images(number)

    @property
    def skipped(self) -> tuple[str, ...]:
        """What was wrong with each broken image that was replaced so far."""
        return self.source.skipped

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass goes through: 0, 1, ..."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        return self.batches()

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """The batches of the epoch from number `start` on, as a full pass has them; those before are not decoded."""
        key = f"{self._seed}/{self._epoch}/{'train' if self.train else 'val'}"
        count, decoded = len(self.source), isinstance(self.source, MemorySource)
        order = draw_order(count, self._augment.repeats, key) if self.train else torch.arange(count)
        draws = draw(self._augment, decoded, count, self.spec.image_size, key, self.device)
        plan = [self._plan.places(number) for number in range(start, len(self))]
        for places, (images, labels) in zip(plan, self._raw(order, plan, f"{key}/crop"), strict=True):
            ready = self._normalize(draws.apply(images, places)).contiguous(memory_format=self._memory_format)
            draws.finish_(ready, places)
            yield ready, labels

    def _raw(self, order: torch.Tensor, plan: Sequence[slice], crop_key: str) -> Iterator[Batch]:
        """The bytes and labels of each batch, on the device."""
        if isinstance(self.source, MemorySource):
            images, labels = self._on_device(self.source)
            order = order.to(self.device)
            for places in plan:
                here = order[places]
                pixels = images.index_select(0, here)  # (n, S, S, 3)
                yield pixels.permute(0, 3, 1, 2), labels.index_select(0, here)
            return
        crops = Crops(crop_key, self._augment) if self._augment.kind == "resized-crop" else None
        # The second, third ... time an image appears, it is cut differently.
        turns = torch.arange(len(order)) % self._augment.repeats
        lists = [list(zip(order[places].tolist(), turns[places].tolist(), strict=True)) for places in plan]
        yield from on_device(self.source.batches(lists, crops, self.device.type == "cuda"), self.device)

    def _on_device(self, source: MemorySource) -> tuple[torch.Tensor, torch.Tensor]:
        """Decoded images, uint8 (N, S, S, 3), and labels; moved and laid out once."""
        if self._resident is None:
            pixels = source.images.to(self.device).permute(0, 2, 3, 1).contiguous()
            self._resident = pixels, source.labels.to(self.device)
        return self._resident


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
    _told: set[str] = field(default_factory=set, repr=False)

    @property
    def skipped(self) -> tuple[str, ...]:
        """What was wrong with each broken image that was replaced so far."""
        return self.train.skipped + self.val.skipped

    def news(self) -> str | None:
        """One line on the images that were found broken since the last call; None if there are none."""
        new = [message for message in self.skipped if message not in self._told]
        self._told.update(new)
        return skipped_text(new) if new else None

    def close(self) -> None:
        """End the processes that decode; the next pass starts new ones."""
        self.train.source.close()
        self.val.source.close()


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
    return Loaders(spec, train, val, set(dataset.skipped))


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
