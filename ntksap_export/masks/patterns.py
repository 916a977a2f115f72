"""Which weights of a tensor live and die together.

    unstructured   each weight for itself
    n:m            of every m weights next to each other along the input channels, at one kernel position, at most n
    block a x b    a output channels by b input channels, at one kernel position, all or none

A layer that a pattern does not fit is left whole, and `misfit` says why. Whole channels are no pattern of one tensor:
removing one touches every layer around it; see `ntksap_export.pruning.structured`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Protocol

import torch

from ntksap_export.errors import ConfigError


class Pattern(Protocol):
    """A rule for one weight tensor, (out, in, kh, kw) or (out, in); `in` is per group for grouped convolutions."""

    @property
    def name(self) -> str:
        """As `parse_pattern` reads it."""

    @property
    def unit_size(self) -> int:
        """Weights that live and die together."""

    @property
    def caps(self) -> bool:
        """Whether groups of weights have a limit of their own, whatever the budget: `share` is then below 1."""

    @property
    def share(self) -> float:
        """Of a fitting layer's weights, the share that the pattern lets live at most."""

    def misfit(self, shape: torch.Size) -> str | None:
        """Why a tensor of this shape cannot follow the pattern; None if it can."""

    def most(self, weights: int) -> int:
        """How many of a fitting layer's weights the pattern lets live at most."""

    def pool(self, values: torch.Tensor) -> torch.Tensor:
        """One value per unit: the sum over its weights."""

    def spread(self, units: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """The weights' form of what stands per unit; the inverse of `pool` but for the sum."""

    def allowed(self, scores: torch.Tensor, alive: torch.Tensor, share: float) -> torch.Tensor:
        """Which of the `alive` weights may live in a round whose schedule stands at `share` of the weights."""

    def shuffled(self, kept: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """As many weights of a fitting layer at other places, drawn on the CPU; the pattern still holds."""


@dataclass(frozen=True, slots=True)
class Unstructured:
    """Each weight for itself."""

    name: str = "unstructured"
    unit_size: int = 1
    caps: bool = False
    share: float = 1.0

    def misfit(self, shape: torch.Size) -> str | None:  # noqa: ARG002
        """Never: every tensor fits."""
        return None

    def most(self, weights: int) -> int:
        """All of them."""
        return weights

    def pool(self, values: torch.Tensor) -> torch.Tensor:
        """`values`, flat."""
        return values.reshape(-1)

    def spread(self, units: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """`units` in `shape`."""
        return units.view(shape)

    def allowed(self, scores: torch.Tensor, alive: torch.Tensor, share: float) -> torch.Tensor:  # noqa: ARG002
        """All that are alive."""
        return alive

    def shuffled(self, kept: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The units at other places."""
        return _units_shuffled(self, kept, generator)


@dataclass(frozen=True, slots=True)
class NofM:
    """At most `n` of every `m` weights along the input channels, at each kernel position.

    Raises:
        ConfigError: not 1 <= n < m.
    """

    n: int = 2
    m: int = 4
    unit_size: int = 1
    caps: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.n < self.m:
            raise ConfigError(f"pattern n:m keeps n of every m weights, 1 <= n < m; got {self.n}:{self.m}")

    @property
    def name(self) -> str:
        """`2:4`."""
        return f"{self.n}:{self.m}"

    @property
    def share(self) -> float:
        """N of every m."""
        return self.n / self.m

    def misfit(self, shape: torch.Size) -> str | None:
        """The input channels do not divide by m."""
        return _indivisible(shape, out=1, into=self.m)

    def most(self, weights: int) -> int:
        """N of every m."""
        return weights // self.m * self.n

    def pool(self, values: torch.Tensor) -> torch.Tensor:
        """`values`, flat."""
        return values.reshape(-1)

    def spread(self, units: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """`units` in `shape`."""
        return units.view(shape)

    def allowed(self, scores: torch.Tensor, alive: torch.Tensor, share: float) -> torch.Tensor:
        """The best of each m: as many as the schedule's share of m, never fewer than n.

        So a schedule of many rounds tightens the pattern step by step, from m:m to n:m.
        """
        limit = max(self.n, math.ceil(self.m * share))
        if limit >= self.m:
            return alive
        # (out, in, *kernel) -> (out, *kernel, in / m, m)
        grouped = scores.masked_fill(~alive, -torch.inf).movedim(1, -1)
        grouped = grouped.reshape(*grouped.shape[:-1], -1, self.m)
        best = torch.zeros_like(grouped, dtype=torch.bool).scatter_(-1, _best_places(grouped, limit), True)
        return best.flatten(-2).movedim(-1, 1) & alive

    def shuffled(self, kept: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The groups of m at other places, and each group's weights too."""
        grouped = kept.movedim(1, -1)
        groups = grouped.reshape(-1, self.m)
        groups = groups[torch.randperm(len(groups), generator=generator).to(kept.device)]
        places = torch.rand(groups.shape, generator=generator).argsort(-1).to(kept.device)
        return groups.gather(-1, places).view(grouped.shape).movedim(-1, 1)


@dataclass(frozen=True, slots=True)
class Block:
    """`out` output channels by `into` input channels, at each kernel position, live and die together.

    Raises:
        ConfigError: a side below 1, or a block of one weight.
    """

    out: int
    into: int
    caps: bool = False
    share: float = 1.0

    def __post_init__(self) -> None:
        if min(self.out, self.into) < 1 or self.unit_size < 2:
            raise ConfigError(
                f"pattern block takes OUTxIN with at least two weights, as in 4x1 or 1x16; got {self.out}x{self.into}"
            )

    @property
    def name(self) -> str:
        """`4x1`."""
        return f"{self.out}x{self.into}"

    @property
    def unit_size(self) -> int:
        """Weights of one block."""
        return self.out * self.into

    def misfit(self, shape: torch.Size) -> str | None:
        """A side of the block does not divide the channels."""
        return _indivisible(shape, self.out, self.into)

    def most(self, weights: int) -> int:
        """All of them."""
        return weights

    def pool(self, values: torch.Tensor) -> torch.Tensor:
        """(out, in, *kernel) -> sums of the blocks, flat."""
        rows, columns = values.shape[0] // self.out, values.shape[1] // self.into
        blocks = values.reshape(rows, self.out, columns, self.into, *values.shape[2:])
        return blocks.sum(dim=(1, 3)).reshape(-1)

    def spread(self, units: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Each block's value at all of its weights."""
        blocks = units.view(shape[0] // self.out, shape[1] // self.into, *shape[2:])
        return blocks.repeat_interleave(self.out, 0).repeat_interleave(self.into, 1)

    def allowed(self, scores: torch.Tensor, alive: torch.Tensor, share: float) -> torch.Tensor:  # noqa: ARG002
        """All that are alive."""
        return alive

    def shuffled(self, kept: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The units at other places."""
        return _units_shuffled(self, kept, generator)


def parse_pattern(text: str) -> Pattern:
    """The pattern of a name: `unstructured`, `2:4` or another n:m, `4x1` or another OUTxIN.

    Raises:
        ConfigError: it is none of these.
    """
    if text == "unstructured":
        return Unstructured()
    if numbers := re.fullmatch(r"(\d{1,4}):(\d{1,4})", text):
        return NofM(int(numbers[1]), int(numbers[2]))
    if numbers := re.fullmatch(r"(\d{1,4})x(\d{1,4})", text):
        return Block(int(numbers[1]), int(numbers[2]))
    raise ConfigError(
        f"unknown pattern '{text}'; use unstructured, n:m as in 2:4, OUTxIN as in 4x1, channel, or channel+2:4"
    )


def split_pattern(text: str) -> tuple[bool, Pattern | None]:
    """Whether whole channels go first, and the pattern of what is left: `channel`, `channel+2:4`, `2:4`.

    Raises:
        ConfigError: an unknown pattern.
    """
    first, plus, rest = text.partition("+")
    if first != "channel":
        return False, parse_pattern(text)
    return True, parse_pattern(rest) if plus else None


def _units_shuffled(pattern: Pattern, kept: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    units = pattern.pool(kept) > 0
    return pattern.spread(units[torch.randperm(units.numel(), generator=generator).to(kept.device)], kept.shape)


def _best_places(grouped: torch.Tensor, limit: int) -> torch.Tensor:
    """Indices of the `limit` highest along the last axis; among equals the places rotate from group to group.

    A fixed choice among equals would always spare the same channels.
    """
    m = grouped.shape[-1]
    groups = torch.arange(grouped[..., 0].numel(), device=grouped.device).view(*grouped.shape[:-1], 1)
    order = (torch.arange(m, device=grouped.device) + groups) % m
    ranks = grouped.gather(-1, order).argsort(dim=-1, descending=True, stable=True)[..., :limit]
    return order.gather(-1, ranks)


def _indivisible(shape: torch.Size, out: int, into: int) -> str | None:
    if shape[1] % into:
        return f"{shape[1]} input channels do not divide by {into}"
    if shape[0] % out:
        return f"{shape[0]} output channels do not divide by {out}"
    return None
