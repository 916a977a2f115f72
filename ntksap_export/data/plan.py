"""Which places of an epoch's order each batch takes, and which of them one of several processes reads."""

from __future__ import annotations

from dataclasses import dataclass

from ntksap_export.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class Plan:
    """The batches of an epoch.

    Each training batch is divided over the processes, so that together they see the batch of one process. Of
    validation batches the first goes to rank 0, the second to rank 1, and so on.

    Args:
        count: number of images in an epoch.
        batch_size: images per batch over all processes.
        train: whether it is for training: a last batch that would leave a process fewer than 2 images, which
            BatchNorm cannot normalize, is dropped, unless it is the only one or the batch size is 1.
        part: this process's rank and the number of processes.

    Raises:
        ConfigError: no such part, or a batch size below 1 or too small to be divided.
        DataError: too few images to be divided.
    """

    count: int
    batch_size: int
    train: bool
    part: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        rank, world = self.part
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1; got {self.batch_size}. 128 is usual")
        if not 0 <= rank < world:
            raise ConfigError(f"part must be (rank, processes) with 0 <= rank < processes; got {self.part}")
        if not self.train or world == 1:
            return
        if self.batch_size < 2 * world:
            raise ConfigError(
                f"batch_size must be at least 2 a process; got {self.batch_size} for {world} processes. "
                f"Use {2 * world} or more"
            )
        if self.count < 2 * world:
            raise DataError(f"{self.count} training images are too few for {world} processes; use fewer processes")

    @property
    def _batches(self) -> int:
        """Number of batches over all processes."""
        full, rest = divmod(self.count, self.batch_size)
        dropped = self.train and full > 0 and rest < 2 * self.part[1]
        return full + (rest > 0 and not dropped)

    def __len__(self) -> int:
        rank, world = self.part
        return self._batches if self.train else len(range(rank, self._batches, world))

    def _whole(self, number: int) -> range:
        rank, world = self.part
        start = (number if self.train else number * world + rank) * self.batch_size
        return range(start, min(start + self.batch_size, self.count))

    def images(self, number: int) -> int:
        """How many images this process's batch `number` has over all processes."""
        return len(self._whole(number))

    def places(self, number: int) -> slice:
        """Places in the epoch's order of the images that this process reads for its batch `number`."""
        whole = self._whole(number)
        rank, world = self.part if self.train else (0, 1)
        return slice(whole.start + rank, whole.stop, world)
