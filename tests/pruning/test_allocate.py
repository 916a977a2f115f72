"""Allocation: the best under the bounds, none of them broken, nothing left that would fit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntksap_export.pruning.allocate import Candidates, allocate, allocate_evenly, cost


@st.composite
def several(draw: st.DrawFn, most_units: int = 6) -> list[Candidates]:
    """Two or three small layers; many equal scores, some negative, some layers that cost no MACs."""
    unit = draw(st.sampled_from([1, 1, 4]))
    layers = []
    for _ in range(draw(st.integers(2, 3))):
        kind = draw(st.sampled_from([np.float32, np.float64]))
        values = draw(st.lists(st.sampled_from([-2.0, 0.0, 1e-20, 0.5, 1.0, 1.5, 7.0]), max_size=most_units))
        floor = draw(st.integers(0, len(values) // 2))
        layers.append(Candidates(np.sort(np.array(values, kind)), unit, unit * draw(st.sampled_from([0, 1, 3])), floor))
    return layers


def worth(layers: list[Candidates], counts: list[int]) -> float:
    return sum(float(layer.scores[len(layer.scores) - k :].sum()) for layer, k in zip(layers, counts, strict=True) if k)


def allowed(layers: list[Candidates], counts: list[int], weights: int | None, macs: int | None) -> bool:
    used = cost(layers, counts)
    return (weights is None or used[0] <= weights) and (macs is None or used[1] <= macs)


def bounds(draw: st.DrawFn, layers: list[Candidates]) -> tuple[int | None, int | None]:
    least, most = cost(layers, [layer.floor for layer in layers]), cost(layers, [len(layer.scores) for layer in layers])
    weights = draw(st.one_of(st.none(), st.integers(least[0], most[0])))
    macs = draw(st.one_of(st.none() if weights is not None else st.nothing(), st.integers(least[1], most[1])))
    return weights, macs


@settings(deadline=None, max_examples=300)
@given(data=st.data(), layers=several())
def test_bounds_and_floors_hold_and_nothing_more_fits(data: st.DataObject, layers: list[Candidates]) -> None:
    weights, macs = bounds(data.draw, layers)

    counts = allocate(layers, weights, macs)

    assert allowed(layers, counts, weights, macs)
    assert all(layer.floor <= k <= len(layer.scores) for layer, k in zip(layers, counts, strict=True))
    for index, layer in enumerate(layers):
        one_more = [k + (place == index) for place, k in enumerate(counts)]
        assert counts[index] == len(layer.scores) or not allowed(layers, one_more, weights, macs)


@settings(deadline=None, max_examples=200)
@given(data=st.data(), layers=several())
def test_the_number_of_weights_is_exact_and_its_kept_score_the_highest(
    data: st.DataObject, layers: list[Candidates]
) -> None:
    most = cost(layers, [len(layer.scores) for layer in layers])[0]
    weights = data.draw(st.integers(cost(layers, [layer.floor for layer in layers])[0], most))

    counts = allocate(layers, weights, None)

    unit = layers[0].weights
    assert weights // unit * unit == cost(layers, counts)[0]
    every = itertools.product(*(range(layer.floor, len(layer.scores) + 1) for layer in layers))
    same = [list(other) for other in every if cost(layers, list(other))[0] == cost(layers, counts)[0]]
    assert max(worth(layers, other) for other in same) == pytest.approx(worth(layers, counts))


@settings(deadline=None, max_examples=200)
@given(data=st.data(), layers=several())
def test_under_prices_it_loses_less_than_the_relaxation_allows(data: st.DataObject, layers: list[Candidates]) -> None:
    """Greedy by score per price loses at most one unit's score against the best of all allocations, per bound."""
    layers = [Candidates(np.abs(one.scores[::-1]).copy(), one.weights, one.macs, 0) for one in layers]
    layers = [Candidates(np.sort(one.scores), one.weights, one.macs, 0) for one in layers]
    weights, macs = bounds(data.draw, layers)

    counts = allocate(layers, weights, macs)

    every = itertools.product(*(range(len(layer.scores) + 1) for layer in layers))
    best = max(worth(layers, list(other)) for other in every if allowed(layers, list(other), weights, macs))
    largest = max((float(layer.scores[-1]) for layer in layers if len(layer.scores)), default=0.0)
    slack = largest * (2 if weights is not None and macs is not None else 1)
    assert worth(layers, counts) >= best - slack - 1e-6


def test_flops_go_where_a_mac_buys_most() -> None:
    dear, cheap = np.array([3.0, 4.0, 5.0]), np.array([1.0, 1.0, 2.0])
    layers = [Candidates(dear, 1, 10), Candidates(cheap, 1, 1)]

    assert [1, 3] == allocate(layers, None, 13)
    assert [0, 3] == allocate(layers, None, 3)
    assert [2, 3] == allocate(layers, None, 23)


def test_both_bounds_at_once() -> None:
    rng = np.random.default_rng(0)
    dear, cheap = np.sort(rng.random(1000) + 0.5), np.sort(rng.random(1000))
    layers = [Candidates(dear, 1, 10), Candidates(cheap, 1, 1)]

    counts = allocate(layers, 1000, 5500)

    assert (1000, 5500) == cost(layers, counts)
    assert [500, 500] == counts


def test_a_bound_that_does_not_bind_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    layers = [Candidates(np.sort(rng.random(100)), 1, 5), Candidates(np.sort(rng.random(100)), 1, 1)]

    assert allocate(layers, 40, None) == allocate(layers, 40, 10_000)
    assert allocate(layers, None, 90) == allocate(layers, 190, 90)


def test_scores_far_apart_in_size_are_still_told_apart() -> None:
    values = np.sort(np.array([1e-44, 1e-38, 1e-30, 1e-3, 1.0, 1e30], np.float32))
    layers = [Candidates(values, 1, 1), Candidates(np.array([1e-300, 1e-200, 5e-39]), 1, 1)]

    assert [[1, 0], [2, 0], [3, 0], [4, 0], [5, 0], [5, 1], [6, 1]] == [
        allocate(layers, keep, None) for keep in range(1, 8)
    ]


def test_evenly_means_the_same_share_of_each() -> None:
    layers = [Candidates(np.arange(size, dtype=float), 1, macs) for size, macs in ((1000, 9), (100, 1), (10, 4))]

    counts = allocate_evenly(layers, 333, None)

    assert 333 == sum(counts)
    assert [300, 30, 3] == pytest.approx(counts, abs=1)


@settings(deadline=None, max_examples=200)
@given(data=st.data(), layers=several(most_units=30))
def test_evenly_keeps_bounds_and_floors(data: st.DataObject, layers: list[Candidates]) -> None:
    weights, macs = bounds(data.draw, layers)

    counts = allocate_evenly(layers, weights, macs)

    assert allowed(layers, counts, weights, macs)
    assert all(layer.floor <= k <= len(layer.scores) for layer, k in zip(layers, counts, strict=True))
    if macs is None and weights is not None:
        assert weights // layers[0].weights * layers[0].weights == cost(layers, counts)[0]
