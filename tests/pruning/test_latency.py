"""Prices of layers between the widths that were timed, and the line to the whole network."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntksap_export.pruning.latency import Calibration, LatencyTable, LayerPrices, monotone

PRICES = LayerPrices((8, 32, 64), (16, 64), ((1.0, 2.0), (3.0, 6.0), (5.0, 12.0)))
TABLES = st.integers(1, 4).flatmap(
    lambda columns: st.lists(st.lists(st.floats(-1, 100), min_size=columns, max_size=columns), min_size=1, max_size=4)
)


def test_timed_widths_cost_what_was_timed() -> None:
    for (row, out), (column, into) in itertools.product(enumerate(PRICES.outs), enumerate(PRICES.ins)):
        assert PRICES.ms[row][column] == PRICES.at(out, into)
        assert PRICES.ms[row][column] == PRICES.at(out, into, step=48)


def test_between_them_it_is_linear_in_each_side() -> None:
    assert PRICES.at(20, 16) == 2.0
    assert PRICES.at(48, 40) == pytest.approx((4.0 + 9.0) / 2)


def test_below_the_least_it_costs_what_the_least_does() -> None:
    assert PRICES.at(1, 1) == 1.0


def test_channels_count_in_the_steps_of_the_hardware() -> None:
    assert PRICES.at(33, 16, step=16) == PRICES.at(48, 16) == PRICES.at(40, 16, step=16)
    assert PRICES.at(49, 16, step=16) == PRICES.at(64, 16)
    assert PRICES.at(60, 16, step=48) == PRICES.at(64, 16)  # never above all of them


@given(TABLES)
def test_prices_never_fall_as_widths_grow(timed: list[list[float]]) -> None:
    ms = monotone(timed)

    assert all(low <= high for row in ms for low, high in itertools.pairwise(row))
    assert all(low <= high for column in zip(*ms, strict=True) for low, high in itertools.pairwise(column))
    assert min(value for row in ms for value in row) >= 0


@given(TABLES, st.sampled_from([1, 8, 16]))
def test_neither_do_prices_between(timed: list[list[float]], step: int) -> None:
    outs, ins = (tuple(10 * (n + 1) for n in range(count)) for count in (len(timed), len(timed[0])))
    prices = LayerPrices(outs, ins, monotone(timed))

    for into in (5, 10, 17, ins[-1]):
        along = [prices.at(out, into, step) for out in range(10, outs[-1] + 1, 3)]
        assert all(low <= high + 1e-9 for low, high in itertools.pairwise(along))


def test_what_grows_already_stays() -> None:
    assert PRICES.ms == monotone(PRICES.ms)
    assert monotone([[1.0, 3.0, 2.0, 4.0]]) == ((1.0, 2.5, 2.5, 4.0),)


def test_a_layer_without_a_price_costs_nothing() -> None:
    table = LatencyTable({"a": PRICES})

    assert table.price("a", 8, 16) == 1.0
    assert table.price("b", 8, 16) == 0.0


def test_the_line_goes_through_what_was_timed_whole() -> None:
    line = Calibration([(10.0, 5.0), (2.0, 2.0), (6.0, 4.0)])

    assert line.promise(10.0) == 5.0
    assert line.promise(4.0) == 3.0
    assert line.promise(20.0) == 10.0
    assert line.total_for(3.0) == 4.0
    assert line.total_for(1.0) == 2.0
    assert line.total_for(9.0) == 10.0


def test_noise_does_not_make_the_line_fall() -> None:
    line = Calibration([(1.0, 1.0), (2.0, 3.0), (3.0, 2.0), (4.0, 4.0)])

    assert line.promise(2.0) == line.promise(3.0) == 2.5
    assert line.total_for(2.5) == 3.0
