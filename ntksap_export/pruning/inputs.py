"""What a scorer may look at: the shape of the images, and a source of randomness that repeats."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

import torch

from ntksap_export.errors import ConfigError

Norms = Literal["eval", "batch", "held"]


@dataclass(frozen=True, slots=True)
class ScoringInputs:
    """Batches to score with.

    Attributes:
        shape: (C, H, W) of one image.
        batch_size: images per batch, at least 2 (BatchNorm needs a variance).
        batches: batches per draw.
        seed: everything random in scoring follows from it.
        data: for methods that read data: normalized images (M, C, H, W) and labels (M,), M >= batch_size * batches.
        hold_statistics: BatchNorm's batch statistics count as constants: no gradient flows through them. For scores
            that are summed over channels: with batch statistics a filter's scale does not matter to what follows, so
            that the sum of w * dL/dw over it is zero. Concerns snip, iter-snip, force, grasp and prospr; ntksap always
            holds them, the others take no gradient through them.

    Raises:
        ConfigError: a size that cannot be scored with.
    """

    shape: tuple[int, int, int]
    batch_size: int = 100
    batches: int = 1
    seed: int = 0
    data: tuple[torch.Tensor, torch.Tensor] | None = field(default=None, compare=False, repr=False)
    hold_statistics: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise ConfigError(f"score-batch-size must be at least 2; got {self.batch_size}")
        if self.batches < 1:
            raise ConfigError(f"score-batches must be at least 1; got {self.batches}")
        if self.data is not None and len(self.data[0]) < self.batch_size * self.batches:
            raise ConfigError(
                f"{self.batches} scoring batches of {self.batch_size} need {self.batches * self.batch_size} images; "
                f"got {len(self.data[0])}. Lower --score-batches or --score-batch-size"
            )

    @property
    def norms(self) -> Norms:
        """How BatchNorm normalizes where a scorer takes gradients through batches; see `gradients.modes`."""
        return "held" if self.hold_statistics else "batch"

    def generator(self, device: torch.device, *key: int) -> torch.Generator:
        """A generator of its own for each key (round, draw, batch), whatever else was drawn before."""
        digest = hashlib.sha256(repr((self.seed, *key)).encode()).digest()
        return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)

    def labelled(self, batch: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and labels of scoring batch `batch`, from 0, on `device`.

        Raises:
            ConfigError: there are no data.
        """
        if self.data is None:
            raise ConfigError("this method reads images and labels; give them as ScoringInputs(data=(images, labels))")
        part = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
        return self.data[0][part].to(device), self.data[1][part].to(device)
