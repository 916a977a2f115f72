"""Towards a latency: how much the table may come to, so that the network as a whole takes what was asked.

1. Time the dense network, the narrowest one and one between; a line through them says what sum of layers to aim at.
2. Choose channels for that sum, time the network that they leave, put it into the line, aim again.
3. End when it takes 97 to 100 % of what was asked, or when no other network lies between what is too slow and the best.

The answer is never a network that was timed above the budget. Given the same times it is the same network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from ntksap_export.errors import ConfigError
from ntksap_export.latency_budget import LatencyBudget
from ntksap_export.pruning.channel_plan import ChannelPlan
from ntksap_export.pruning.latency import Calibration, LatencyTable, Meter
from ntksap_export.pruning.narrowing import Narrowing
from ntksap_export.timing import Timing

_NEAR = 0.97  # of what was asked: near enough
_MOST = 8  # networks that are tried
_HALVINGS = 30  # to find the width between

PlanOf = Callable[[list[list[int]]], ChannelPlan]


@dataclass(frozen=True, slots=True)
class Reached:
    """How a latency was met.

    Attributes:
        asked_ms: by the user.
        promised_ms: what the table said of the network that was taken, before it was timed.
        measured: what it took.
        dense: what the network with all channels takes.
        narrowest: what it takes with as few channels as are allowed.
        iterations: how many networks were tried.
        table_digest: of the layers' times.
    """

    asked_ms: float
    promised_ms: float
    measured: Timing
    dense: Timing
    narrowest: Timing
    iterations: int
    table_digest: str

    def to_json(self) -> dict[str, Any]:
        """For mask.json."""
        return {
            "asked_ms": self.asked_ms,
            "promised_ms": round(self.promised_ms, 6),
            "measured_ms": self.measured.ms,
            "ci_ms": [self.measured.low_ms, self.measured.high_ms],
            "dense_ms": self.dense.ms,
            "narrowest_ms": self.narrowest.ms,
            "iterations": self.iterations,
            "table_digest": self.table_digest,
        }


@dataclass
class LatencyGoal:
    """A latency that channels have to meet, and what was found on the way.

    Attributes:
        budget: what was asked.
        meter: what times layers and networks.
        alone: whether nothing else bounds the network.
        reached: how it was met; None before.
    """

    budget: LatencyBudget
    meter: Meter
    alone: bool = True
    reached: Reached | None = None
    _line: Calibration = field(default_factory=Calibration)
    _table: LatencyTable = field(default_factory=lambda: LatencyTable({}))
    _dense: Timing | None = None
    _narrowest: Timing | None = None
    _best: tuple[float, ChannelPlan] | None = None
    _too_slow: float = 0.0  # the least sum of layers that was found too slow
    _aims: int = 0
    bound: float = 0.0  # what the layers may come to

    def begin(self, narrowing: Narrowing, plan_of: PlanOf) -> None:
        """Have the layers timed and put their prices into `narrowing`, whose channels are all there; set `bound`.

        Raises:
            ConfigError: the narrowest network is too slow, or the dense one fast enough; says what they take.
        """
        dense, narrowest = narrowing.at_share(1.0), narrowing.at_share(0.0)
        most, least = narrowing.counts_at(dense), narrowing.counts_at(narrowest)
        self._table = self.meter.table({name: (least[name], most[name]) for name in most})
        narrowing.set_price(self._table.price)
        self._dense, self._narrowest = (self.meter.whole(plan_of(kept)) for kept in (dense, narrowest))
        self._check()
        self._too_slow = narrowing.costs_at(dense)[2] * (1 + 1e-9)
        self._line.add(narrowing.costs_at(dense)[2], self._dense.ms)
        self._line.add(narrowing.costs_at(narrowest)[2], self._narrowest.ms)
        if self.budget.ms < self._dense.ms:
            between = _with_sum(narrowing, self._line.total_for(self.budget.ms))
            self._line.add(narrowing.costs_at(between)[2], self.meter.whole(plan_of(between)).ms)
        self.bound = self._line.total_for(self.budget.ms)

    def judge(self, plan: ChannelPlan, total: float) -> ChannelPlan | None:
        """Time a network that was chosen under `bound`; the answer, or None when `bound` is another one now.

        Args:
            plan: the network.
            total: what its layers come to.

        Raises:
            ConfigError: none of those tried was fast enough.
        """
        if self._best is not None and total <= self._best[0]:
            return self._end()
        self._aims += 1
        promised, timing = self._line.promise(total), self.meter.whole(plan)
        self._line.add(total, timing.ms)
        if timing.ms <= self.budget.ms:
            self._best = (total, plan)
            assert self._dense is not None and self._narrowest is not None
            self.reached = Reached(
                self.budget.ms, promised, timing, self._dense, self._narrowest, self._aims, self._table.digest
            )
        else:
            self._too_slow = min(self._too_slow, total)
        near = timing.ms >= _NEAR * self.budget.ms
        if self._best is not None and (self._aims >= _MOST or (near and self._best[1] is plan)):
            return self._end()
        if self._aims >= _MOST:
            raise ConfigError(
                f"{self._asked()} was not met in {_MOST} tries, the last of them took {_interval(timing)}; is the "
                f"machine busy? The narrowest network took {_interval(self._narrowest)}: ask for more, or try again"
            )
        self._aim_again()
        return None

    def _end(self) -> ChannelPlan:
        assert self.reached is not None and self._best is not None
        self.reached = replace(self.reached, iterations=self._aims)
        return self._best[1]

    def _aim_again(self) -> None:
        """Between the best and the least that was too slow: where the line says, or in the middle."""
        floor = 0.0 if self._best is None else self._best[0]
        aim = self._line.total_for(self.budget.ms)
        if not floor < aim < self._too_slow * (1 - 1e-6):
            aim = (floor + self._too_slow) / 2 if floor else 0.98 * self._too_slow
        self.bound = aim

    def _check(self) -> None:
        assert self._dense is not None and self._narrowest is not None
        if self.budget.ms < self._narrowest.ms:
            raise ConfigError(
                f"{self._asked()} cannot be met: the narrowest network takes {_interval(self._narrowest)} there; ask "
                "for more, or lower --round-to or --min-layer-density or keep fewer layers dense"
            )
        if self.alone and self.budget.ms >= self._dense.ms:
            raise ConfigError(
                f"{self._asked()} leaves nothing to remove: the dense network takes {_interval(self._dense)} there; "
                "ask for less"
            )

    def _asked(self) -> str:
        return f"--budget latency of {self.budget.ms:g} ms on {self.budget.where()}"


def _with_sum(narrowing: Narrowing, total: float) -> list[list[int]]:
    """Units of a network whose groups all keep about the same share, so that its layers come to `total` at most."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if narrowing.costs_at(narrowing.at_share(middle))[2] <= total else (low, middle)
    return narrowing.at_share(low)


def _interval(timing: Timing | None) -> str:
    assert timing is not None
    return f"{timing.ms:.4g} ms (95 % interval {timing.low_ms:.4g} to {timing.high_ms:.4g})"
