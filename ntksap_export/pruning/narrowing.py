"""Giving up channels until a budget is met: what each step costs in score, and what it saves, counted exactly.

    next to go = the step with the least   (sum of the scores of all weights that go) / (what they cost)

A step takes the lowest units of one group, as many as lead to the next width that is allowed. Its weights are rows in
the layers that put the channels out and columns in those that read them; their cost is their number under a budget of
weights (so that the quotient is a mean score), their MACs under one of FLOPs (after 3SP, van Amersfoort et al. 2020),
under both the sum of the two as shares of what has still to go. Plain sums would take the narrow groups first, whatever
they are worth. What a step saves depends on the widths around it, kept_out * kept_in * kernel: costs and sums are
brought up to date after each step.

A third cost is time, out of a table of what each layer takes at each width (`latency`). Under such a bound a step is as
long as it must be to save any: where a runtime computes channels by sixteen, the first eight give nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ntksap_export.pruning.channel_lines import Indices, lines_of
from ntksap_export.pruning.channel_units import ChannelGroup

Bounds = tuple[int | None, int | None, float | None]  # weights, MACs and milliseconds to keep at most
Costs = tuple[int, int, float]  # the same
_LEAST_MS = 1e-9  # less is a rounding of sums
Price = Callable[[str, int, int], float]  # a weight's name, outputs and inputs kept -> milliseconds


@dataclass(frozen=True, slots=True)
class _Step:
    """Units that go or come back together: the sum of their weights' scores, and what they cost."""

    units: Indices
    score: float
    costs: Costs


class Narrowing:
    """The widths of all groups, and the weights and MACs that they come to.

    Args:
        groups: those that a plan is made for.
        widths: for each group the numbers of units that it may have, ascending; the last is all of them.
        shapes: of all prunable weights, by parameter name.
        positions: output positions at which each weight is used, by parameter name; not there is 0.
        filters: whether scores are of whole filters (`scorers/filters.py`): a unit's is the mean over its rows,
            whatever else goes, and the least goes first, whatever it saves.
    """

    def __init__(
        self,
        groups: Sequence[ChannelGroup],
        widths: Sequence[Sequence[int]],
        shapes: Mapping[str, torch.Size],
        positions: Mapping[str, int],
        filters: bool = False,
    ) -> None:
        self.widths = widths
        self._filters = filters
        self._kernels = {name: math.prod(shape[2:]) for name, shape in shapes.items()}
        self._positions = {name: positions.get(name, 0) for name in shapes}
        self._whole = {name: (shape[0], shape[1]) for name, shape in shapes.items()}
        self._counts = {name: list(count) for name, count in self._whole.items()}
        self._price: Price | None = None
        self._lines = [lines_of(group, shapes) for group in groups]
        self._alive = [np.ones(group.units, dtype=bool) for group in groups]
        self._lost: list[list[int]] = [[] for _ in groups]  # in this round; they may come back within it
        self._scores: dict[str, Any] = {}
        self._sums: dict[str, list[Any]] = {}
        self._steps: dict[int, _Step | None] = {}
        users: dict[str, set[int]] = {}
        for index, lines in enumerate(self._lines):
            for line in lines:
                users.setdefault(line.name, set()).add(index)
        self._neighbours = [set().union(*(users[line.name] for line in lines)) for lines in self._lines]

    @property
    def kept(self) -> list[list[int]]:
        """For each group the units that stay, ascending."""
        return [np.flatnonzero(alive).tolist() for alive in self._alive]

    @property
    def weights(self) -> int:
        """Prunable weights that stay."""
        return self._costs(self._counts)[0]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image that stay, in layers whose positions are known."""
        return self._costs(self._counts)[1]

    @property
    def ms(self) -> float:
        """Milliseconds of the layers that are left, by `price`."""
        return self._costs(self._counts)[2]

    def set_price(self, price: Price) -> None:
        """Have layers take time: 0 or more, and no more at a smaller width. Without it none takes any."""
        self._price = price
        self._steps.clear()

    def least(self) -> tuple[int, int]:
        """Weights and MACs when every group is as narrow as it may be; nothing is changed."""
        return self.costs_at(self.at_share(0.0))[:2]

    def at_share(self, share: float) -> list[list[int]]:
        """Units of a network whose groups each have the least width of `share` of their units or more: some of them."""
        return [list(range(next(w for w in widths if w >= share * widths[-1] - 1e-9))) for widths in self.widths]

    def counts_at(self, kept: Sequence[Sequence[int]]) -> dict[str, tuple[int, int]]:
        """Outputs and inputs of each weight when only the units `kept` of each group stay; nothing is changed."""
        counts = {name: list(count) for name, count in self._whole.items()}
        for lines, units in zip(self._lines, kept, strict=True):
            for line in lines:
                counts[line.name][line.axis] -= int((~np.isin(line.units, units)).sum())
        return {name: (out, into) for name, (out, into) in counts.items()}

    def costs_at(self, kept: Sequence[Sequence[int]]) -> Costs:
        """`weights`, `macs` and `ms` of a network with other units; nothing is changed."""
        return self._costs(self.counts_at(kept))

    def restore(self) -> None:
        """Bring every unit back, for scorers that choose anew in each round."""
        for index, alive in enumerate(self._alive):
            self._resize(index, np.flatnonzero(~alive), 1)

    def undo_round(self) -> None:
        """Bring back what went in this round."""
        for index, lost in enumerate(self._lost):
            self._resize(index, np.array(lost, dtype=np.int64), 1)
        self._lost = [[] for _ in self._lines]

    def begin_round(self, scores: Mapping[str, torch.Tensor]) -> None:
        """Take new scores, of all weights by parameter name, finite; what went before this stays away."""
        self._lost = [[] for _ in self._lines]
        self._steps.clear()
        alive = {name: [np.ones(count, bool) for count in scores[name].shape[:2]] for name in scores}
        for index, lines in enumerate(self._lines):
            for line in lines:
                alive[line.name][line.axis][line.indices] = self._alive[index][line.units]
        for name in {line.name for lines in self._lines for line in lines}:
            # (out, in, kernel) -> (out, in): rows and columns are all that is asked about.
            table = scores[name].detach()
            table = table.reshape(table.shape[0], table.shape[1], -1).sum(2, dtype=torch.float64)
            self._scores[name] = table.cpu().numpy()
            rows, columns = alive[name]
            self._sums[name] = [self._scores[name][:, columns].sum(1), self._scores[name][rows].sum(0)]

    def keep_best(self, widths: Sequence[int]) -> None:
        """Give up the lowest units of each group beyond so many, all of them by the scores before any went."""
        going = []
        for index, width in enumerate(widths):
            alive = np.flatnonzero(self._alive[index])
            order = alive[np.argsort(self._unit_scores(index)[alive], kind="stable")]
            going.append(order[: max(0, len(alive) - width)])
        for index, units in enumerate(going):
            self._lost[index] += units.tolist()
            self._resize(index, units, -1)

    def fit(self, bounds: Bounds, final: Bounds) -> None:
        """Give up channels until `bounds` are met, then take back what of them still fits.

        A step that would meet the final bounds is not taken in a round before the last, however good: what it saves
        beyond them could not be spent any more. In the last one it is compared with the other ways to the end, and the
        one with the least sum of scores is taken (Csirik et al. 1991, for the knapsack that is to be covered).

        Args:
            bounds: weights, MACs and time to keep at most, None where there is no bound; not below what is possible.
            final: those of the last round.
        """
        start = self._excess(bounds)
        path: list[tuple[int, _Step]] = []
        best: tuple[float, int, int, _Step] | None = None  # loss, length of the path, group and step that end it
        loss = 0.0
        while max(excess := self._excess(bounds)) > 0 and (best is None or loss < best[0]):
            to_end = self._excess(final)
            going = []
            for index, step in enumerate(map(self._next_loss, range(len(self._lines)))):
                if step is None:
                    continue
                if any(cost < over for cost, over in zip(step.costs, to_end, strict=True)):
                    going.append((index, step))
                elif bounds == final and (best is None or loss + step.score < best[0]):
                    best = loss + step.score, len(path), index, step
            if not going:
                break
            # A bound that is met has no price any more.
            prices = tuple(1 / was if now > 0 else 0.0 for now, was in zip(excess, start, strict=True))
            index, step = min(going, key=lambda item: (self._worth(item[1], prices), -self._share(item[0]), item[0]))
            self._give_up(index, step)
            path.append((index, step))
            loss += step.score
        if best is not None:
            for index, step in reversed(path[best[1] :]):
                self._get_back(index, step)
            self._give_up(*best[2:])
        self._take_back(bounds)

    def _take_back(self, bounds: Bounds) -> None:
        prices = tuple(1 / bound if bound else 0.0 for bound in bounds)
        while True:
            excess = self._excess(bounds)
            fitting = [
                (index, step)
                for index, step in enumerate(map(self._next_gain, range(len(self._lines))))
                if step is not None and all(cost + over <= 0 for cost, over in zip(step.costs, excess, strict=True))
            ]
            if not fitting:
                return
            self._get_back(*max(fitting, key=lambda at: (self._worth(at[1], prices), -self._share(at[0]), -at[0])))

    def _give_up(self, index: int, step: _Step) -> None:
        self._lost[index] += step.units.tolist()
        self._resize(index, step.units, -1)

    def _get_back(self, index: int, step: _Step) -> None:
        back = set(step.units.tolist())
        self._lost[index] = [unit for unit in self._lost[index] if unit not in back]
        self._resize(index, step.units, 1)

    def _excess(self, bounds: Bounds) -> tuple[float, ...]:
        costs = self._costs(self._counts)
        return tuple(-math.inf if most is None else cost - most for cost, most in zip(costs, bounds, strict=True))

    def _next_loss(self, index: int) -> _Step | None:
        if index not in self._steps:
            alive = np.flatnonzero(self._alive[index])
            smaller = [width for width in reversed(self.widths[index]) if width < len(alive)]
            self._steps[index] = None
            if smaller:
                scores = self._unit_scores(index)
                order = alive[np.argsort(scores[alive], kind="stable")]
                steps = (self._step(index, order[: len(alive) - width], scores, -1) for width in smaller)
                first = next(steps)
                free = self._price is not None and first.costs[2] < _LEAST_MS
                self._steps[index] = (
                    next((step for step in steps if step.costs[2] >= _LEAST_MS), first) if free else first
                )
        return self._steps[index]

    def _next_gain(self, index: int) -> _Step | None:
        alive, lost = int(self._alive[index].sum()), np.array(self._lost[index], dtype=np.int64)
        larger = [width for width in self.widths[index] if alive < width <= alive + len(lost)]
        if not larger:
            return None
        scores = self._unit_scores(index)
        return self._step(index, lost[np.argsort(-scores[lost], kind="stable")][: larger[0] - alive], scores, 1)

    def _step(self, index: int, units: Indices, scores: Any, sign: int) -> _Step:
        changed: dict[str, list[int]] = {}
        for line in self._lines[index]:
            counts = changed.setdefault(line.name, list(self._counts[line.name]))
            counts[line.axis] += sign * int(np.isin(line.units, units).sum())
        now = {name: self._counts[name] for name in changed}
        wide, narrow = map(self._costs, (changed, now) if sign > 0 else (now, changed))
        costs = (wide[0] - narrow[0], wide[1] - narrow[1], wide[2] - narrow[2])
        return _Step(units, float(scores[units].sum()), costs)

    def _unit_scores(self, index: int) -> Any:
        scores, rows = (np.zeros(len(self._alive[index])) for _ in range(2))
        for line in self._lines[index]:
            if line.axis == 0 or not self._filters:
                scores += np.bincount(line.units, self._sums[line.name][line.axis][line.indices], len(scores))
                rows += np.bincount(line.units, minlength=len(scores))
        return scores / rows.clip(min=1) if self._filters else scores

    def _resize(self, index: int, units: Indices, sign: int) -> None:
        """Let `units` of a group come (sign 1) or go (-1)."""
        self._alive[index][units] = sign > 0
        for line in self._lines[index]:
            moved = line.indices[np.isin(line.units, units)]
            self._counts[line.name][line.axis] += sign * len(moved)
            if line.name in self._sums and not self._filters:
                # Rows that go take their part out of the columns' sums, and the other way round.
                part = np.take(self._scores[line.name], moved, axis=line.axis).sum(axis=line.axis)
                self._sums[line.name][1 - line.axis] += sign * part
        for neighbour in self._neighbours[index]:
            self._steps.pop(neighbour, None)

    def _worth(self, step: _Step, prices: Sequence[float]) -> float:
        price = sum(cost * each for cost, each in zip(step.costs, prices, strict=True))
        return step.score / (len(step.units) if self._filters else price) if price > 0 else math.inf

    def _share(self, index: int) -> float:
        return float(self._alive[index].mean())

    def _costs(self, counts: Mapping[str, Sequence[int]]) -> Costs:
        """Of layers with these outputs and inputs."""
        weights = {name: self._kernels[name] * out * into for name, (out, into) in counts.items()}
        macs = sum(self._positions[name] * number for name, number in weights.items())
        price = self._price
        ms = 0.0 if price is None else math.fsum(price(name, out, into) for name, (out, into) in counts.items())
        return sum(weights.values()), macs, ms
