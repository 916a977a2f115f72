"""What a mask must meet, and how a schedule walks there."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ntksap_export.errors import ConfigError
from ntksap_export.latency_budget import LatencyBudget
from ntksap_export.ranges import check_sparsity


@dataclass(frozen=True, slots=True)
class Budget:
    """What may stay: a share or a number of the prunable weights, a share of the dense FLOPs, or both at once.

    Attributes:
        sparsity: removed / total prunable weights, in [0, 1).
        flops: nonzero MACs / dense MACs of the prunable layers, in (0, 1]; biases and norms cost nothing here.
        params: weights that stay, at least 1; another way to say `sparsity`.
        latency: milliseconds of a call, and under what; of channels alone, and met by measuring (`latency_goal`).
        channels: share of the channels of each group that goes, in [0, 1); of channels alone, each group the same
            share (scope `layer`), and beside no other budget.

    Raises:
        ConfigError: a value out of range, two that say the same, or nothing at all.
    """

    sparsity: float | None = None
    flops: float | None = None
    params: int | None = None
    latency: LatencyBudget | None = None
    channels: float | None = None

    def __post_init__(self) -> None:
        others = self.sparsity, self.flops, self.params, self.latency
        if self.channels is not None:
            check_sparsity(self.channels)
            if others != (None, None, None, None):
                raise ConfigError("a share of channels says how many go; leave the other budgets away")
        elif others == (None, None, None, None):
            raise ConfigError("a budget needs --sparsity, --params or --flops")
        if self.sparsity is not None and self.params is not None:
            raise ConfigError("give --sparsity or --params, not both: each sets the number of weights that stay")
        if self.sparsity is not None:
            check_sparsity(self.sparsity)
        if self.flops is not None and not 0 < self.flops <= 1:
            raise ConfigError(
                f"flops must be in (0, 1]; got {self.flops:g}. It is the share of the dense FLOPs that stays: "
                "for a quarter write --flops 0.25"
            )
        if self.params is not None and self.params < 1:
            raise ConfigError(f"params must be at least 1; got {self.params}")

    def weights(self, total: int) -> int | None:
        """The exact number of weights to keep out of `total`: rounded, at least 1; None if only FLOPs are bounded.

        Raises:
            ConfigError: `params` is above `total`.
        """
        if self.params is not None:
            if self.params > total:
                raise ConfigError(f"--params {self.params:,} is more than the {total:,} prunable weights of the model")
            return self.params
        return None if self.sparsity is None else max(1, round(total * (1.0 - self.sparsity)))

    def macs(self, total: int) -> int | None:
        """The multiply-accumulates of one image to keep at most, out of `total`; None if only weights are bounded."""
        return None if self.flops is None else math.floor(total * self.flops)


def exponential_shares(share: float, rounds: int) -> tuple[float, ...]:
    """share^(t / rounds) for t = 1..rounds: every round keeps the same part of what is left.

    Source: NTK-SAP (ICLR 2023), Algorithm 1; the same schedule as SynFlow (NeurIPS 2020).

    Raises:
        ConfigError: rounds below 1.
    """
    if rounds < 1:
        raise ConfigError(f"rounds must be at least 1; got {rounds}")
    return tuple(share if step == rounds else math.pow(share, step / rounds) for step in range(1, rounds + 1))
