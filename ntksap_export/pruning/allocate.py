"""How many weights each layer keeps: the allocation that maximizes the kept score under a budget, exactly.

    maximize  sum of kept scores      subject to  weights kept <= W  and  MACs kept <= M

A unit (a weight, or a block of them) of score s in a layer where it costs w weights and p MACs is kept when

    s > a * w + b * p

for two prices a and b, found by bisection: b = 0 when only W binds, a = 0 when only M binds. This is the optimum of the
linear relaxation of the knapsack; what remains of the budget, less than one unit's cost or a run of equal scores, is
handed out afterwards. Since costs are constant within a layer, the best k units of each layer are kept, and the
allocation is the list of the k.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]
_TIE_SEED = 0
_MANY_TIES = 1_000_000  # a random order of more takes seconds; shares of so many are as good


@dataclass(frozen=True, slots=True)
class Candidates:
    """One layer, as the allocation sees it.

    Attributes:
        scores: of the units that may be kept, ascending, finite.
        weights: of one unit.
        macs: of one unit, for one image; 0 for a layer that never runs.
        floor: units that stay at least, at most `len(scores)`.
    """

    scores: Array
    weights: int
    macs: int
    floor: int = 0


def allocate(layers: Sequence[Candidates], weights: int | None, macs: int | None) -> list[int]:
    """Units to keep per layer, over all layers at once.

    Args:
        layers: their floors together fit the budget.
        weights: to keep at most; met exactly where the units divide it and `macs` does not bind.
        macs: to keep at most.

    Returns:
        k per layer; adding one more unit anywhere would break a bound.
    """
    if _fits(layers, [len(layer.scores) for layer in layers], weights, macs):
        return [len(layer.scores) for layer in layers]
    base = 0.0
    if weights is not None and macs is not None:
        base = _price_of_macs(layers, weights, macs)
    priced_by_weights = weights is not None

    def kept(price: float) -> list[int]:
        if priced_by_weights:
            return _above(layers, lambda layer: price * layer.weights + base * layer.macs)
        return _above(layers, lambda layer: price * layer.macs if layer.macs else -math.inf)

    low, high = _bisect(lambda price: _fits(layers, kept(price), weights, macs))
    counts = kept(high)
    _share_ties(layers, counts, kept(low), weights, macs)
    _fill(layers, counts, weights, macs)
    return counts


def allocate_evenly(layers: Sequence[Candidates], weights: int | None, macs: int | None) -> list[int]:
    """Units to keep per layer when every layer keeps the same share of its units: scope `layer`.

    Args:
        layers: with all their units as candidates or as many as are alive; the share is of these.
        weights: to keep at most, as in `allocate`.
        macs: to keep at most, as in `allocate`.
    """
    low, high = 0.0, 1.0  # `low` always fits: floors do
    sizes = [len(layer.scores) for layer in layers]

    def kept(share: float) -> list[int]:
        return [max(layer.floor, math.floor(share * size)) for layer, size in zip(layers, sizes, strict=True)]

    if _fits(layers, sizes, weights, macs):
        return sizes
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _fits(layers, kept(middle), weights, macs) else (low, middle)
    counts = kept(low)
    # What rounding down left over goes to the layers that lost most by it.
    lost = sorted(range(len(layers)), key=lambda index: counts[index] - high * sizes[index])
    for index in (*lost, *lost):
        counts[index] += counts[index] < sizes[index]
        if not _fits(layers, counts, weights, macs):
            counts[index] -= 1
    _fill(layers, counts, weights, macs)
    return counts


def cost(layers: Sequence[Candidates], counts: Sequence[int]) -> tuple[int, int]:
    """Weights and MACs of keeping so many units."""
    pairs = list(zip(layers, counts, strict=True))
    return sum(layer.weights * count for layer, count in pairs), sum(layer.macs * count for layer, count in pairs)


def _fits(layers: Sequence[Candidates], counts: Sequence[int], weights: int | None, macs: int | None) -> bool:
    used = cost(layers, counts)
    return (weights is None or used[0] <= weights) and (macs is None or used[1] <= macs)


def _above(layers: Sequence[Candidates], threshold: Callable[[Candidates], float]) -> list[int]:
    return [max(layer.floor, len(layer.scores) - _rank(layer.scores, threshold(layer))) for layer in layers]


def _rank(ascending: Array, threshold: float) -> int:
    """How many are at most `threshold`, compared in the array's own precision and without copying it."""
    kind = ascending.dtype.type
    with np.errstate(over="ignore"):
        bound = kind(threshold)
    if float(bound) > threshold and np.isfinite(bound):
        bound = np.nextafter(bound, kind(-np.inf))
    return int(np.searchsorted(ascending, bound, side="right"))


def _bisect(fits: Callable[[float], bool]) -> tuple[float, float]:
    """The two neighbouring floats between which `fits` turns from False to True; it does so once, going up."""
    low, high = _to_order(-math.inf), _to_order(math.inf)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(_from_order(middle)) else (middle, high)
    return _from_order(low), _from_order(high)


def _to_order(value: float) -> int:
    """An integer that grows with the float, neighbours to neighbours."""
    bits = int(np.float64(value).view(np.int64))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFFFFFFFFFF)


def _from_order(order: int) -> float:
    bits = order if order >= 0 else (-order) | (1 << 63)
    return float(np.uint64(bits).view(np.float64))


def _price_of_macs(layers: Sequence[Candidates], weights: int, macs: int) -> float:
    """The price b at which filling up to `weights` just meets `macs`; 0 where `weights` alone is the tighter bound."""

    def fits(price: float) -> bool:
        def kept(other: float) -> list[int]:
            return _above(layers, lambda layer: other * layer.weights + price * layer.macs)

        # Not below 0: a unit is never kept against its own worth for the sake of filling up.
        free = kept(0.0)
        if _fits(layers, free, weights, None):
            return _fits(layers, free, None, macs)
        _, high = _bisect_coarsely(lambda other: _fits(layers, kept(other), weights, None), 0.0)
        return _fits(layers, kept(high), None, macs)

    if fits(0.0):
        return 0.0
    return _bisect_coarsely(fits, 0.0)[1]


def _bisect_coarsely(fits: Callable[[float], bool], start: float) -> tuple[float, float]:
    """As `_bisect`, from `start` up and to single precision: prices are inner to a search that ends exactly."""
    low, high = _to_order(start), _to_order(math.inf)
    while high - low > 1 << 29:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(_from_order(middle)) else (middle, high)
    return _from_order(low), _from_order(high)


def _share_ties(
    layers: Sequence[Candidates], counts: list[int], more: Sequence[int], weights: int | None, macs: int | None
) -> None:
    """Hand what is left of the budget to equal scores, in a fixed pseudo-random order over all layers; in place."""
    tied = np.array(more) - np.array(counts)
    if tied.sum() > _MANY_TIES:
        _share_proportionally(layers, counts, tied, weights, macs)
        return
    owners = np.repeat(np.arange(len(layers)), tied)
    np.random.default_rng(_TIE_SEED).shuffle(owners)
    used = cost(layers, counts)
    take = len(owners)
    for bound, spent, price in (
        (weights, used[0], [layer.weights for layer in layers]),
        (macs, used[1], [layer.macs for layer in layers]),
    ):
        if bound is not None:
            spending = np.cumsum(np.array(price, dtype=np.int64)[owners])
            take = min(take, int(np.searchsorted(spending, bound - spent, side="right")))
    for index, extra in enumerate(np.bincount(owners[:take], minlength=len(layers))):
        counts[index] += int(extra)


def _share_proportionally(
    layers: Sequence[Candidates],
    counts: list[int],
    tied: npt.NDArray[np.int64],
    weights: int | None,
    macs: int | None,
) -> None:
    """Hand every layer the same share of its equal scores; rounding leaves a few over for later. In place."""
    free, extra = cost(layers, counts), cost(layers, tied.tolist())
    share = 1.0
    for bound, used, wanted in zip((weights, macs), free, extra, strict=True):
        if bound is not None and wanted:
            share = min(share, (bound - used) / wanted)
    for index, number in enumerate(tied.tolist()):
        counts[index] += math.floor(share * number)


def _fill(layers: Sequence[Candidates], counts: list[int], weights: int | None, macs: int | None) -> None:
    """Spend what remains where it still fits, best score first; in place.

    A layer that cannot take one more unit now never can later, since the remainder only shrinks.
    """
    used = cost(layers, counts)
    left_weights = None if weights is None else weights - used[0]
    left_macs = None if macs is None else macs - used[1]
    open_layers = [index for index, layer in enumerate(layers) if counts[index] < len(layer.scores)]

    def room(index: int) -> int:
        layer = layers[index]
        free = len(layer.scores) - counts[index]
        by_weights = free if left_weights is None else left_weights // layer.weights
        by_macs = free if left_macs is None or not layer.macs else left_macs // layer.macs
        return min(free, by_weights, by_macs)

    def next_score(index: int) -> float:
        return float(layers[index].scores[-1 - counts[index]])

    while open_layers := [index for index in open_layers if room(index) >= 1]:
        best = max(open_layers, key=next_score)
        second = max((next_score(index) for index in open_layers if index != best), default=-math.inf)
        ascending = layers[best].scores
        run = len(ascending) - counts[best] - int(np.searchsorted(ascending, second, side="right"))
        step = min(room(best), max(run, 1))
        counts[best] += step
        left_weights = None if left_weights is None else left_weights - step * layers[best].weights
        left_macs = None if left_macs is None else left_macs - step * layers[best].macs
