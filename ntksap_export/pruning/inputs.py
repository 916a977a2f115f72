"""What a scorer may look at: the shape of the images, and a source of randomness that repeats."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch

from ntksap_export.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ScoringInputs:
    """Batches to score with.

    Attributes:
        shape: (C, H, W) of one image.
        batch_size: images per batch, at least 2 (BatchNorm needs a variance).
        batches: batches per draw.
        seed: everything random in scoring follows from it.

    Raises:
        ConfigError: a size that cannot be scored with.
    """

    shape: tuple[int, int, int]
    batch_size: int = 100
    batches: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise ConfigError(f"score-batch-size must be at least 2; got {self.batch_size}")
        if self.batches < 1:
            raise ConfigError(f"score-batches must be at least 1; got {self.batches}")

    def generator(self, device: torch.device, *key: int) -> torch.Generator:
        """A generator of its own for each key (round, draw, batch), whatever else was drawn before."""
        digest = hashlib.sha256(repr((self.seed, *key)).encode()).digest()
        return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)
