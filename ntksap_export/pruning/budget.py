"""What a mask must meet, and how a schedule walks there."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ntksap_export.errors import ConfigError
from ntksap_export.ranges import check_sparsity


@dataclass(frozen=True, slots=True)
class Budget:
    """The share of prunable weights to remove.

    Attributes:
        sparsity: removed / total, in [0, 1).

    Raises:
        ConfigError: the share is outside [0, 1).
    """

    sparsity: float

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)

    @property
    def density(self) -> float:
        """1 - sparsity."""
        return 1.0 - self.sparsity

    def kept(self, total: int) -> int:
        """The exact number of weights to keep out of `total`: rounded to the nearest, at least 1."""
        return max(1, round(total * self.density))


def exponential_densities(density: float, rounds: int) -> tuple[float, ...]:
    """density^(t / rounds) for t = 1..rounds: every round keeps the same share of what is left.

    Source: NTK-SAP (ICLR 2023), Algorithm 1; the same schedule as SynFlow (NeurIPS 2020).

    Raises:
        ConfigError: rounds below 1.
    """
    if rounds < 1:
        raise ConfigError(f"rounds must be at least 1; got {rounds}")
    return tuple(density if step == rounds else math.pow(density, step / rounds) for step in range(1, rounds + 1))
