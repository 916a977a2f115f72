"""Timing: a median and its interval."""

from __future__ import annotations

import random

import pytest

from ntksap_export.timing import Timing


def test_the_median_of_odd_and_even_numbers_of_calls() -> None:
    assert Timing.of([3.0, 1.0, 2.0]).ms == 2.0
    assert Timing.of([4.0, 1.0, 2.0, 3.0]).ms == 2.5
    assert Timing(7.0, 7.0, 7.0, 1) == Timing.of([7.0])


def test_the_interval_holds_the_true_median_nineteen_times_of_twenty() -> None:
    draw = random.Random(0)
    held = 0
    for _ in range(1000):
        timing = Timing.of([draw.expovariate(1.0) for _ in range(60)])
        held += timing.low_ms <= 0.693147 <= timing.high_ms

    assert 930 <= held <= 985


def test_more_calls_say_it_more_exactly() -> None:
    draw = random.Random(0)
    few, many = (Timing.of([draw.gauss(10, 1) for _ in range(count)]) for count in (20, 2000))

    assert many.high_ms - many.low_ms < (few.high_ms - few.low_ms) / 4


def test_a_row_reads_as_it_was_written() -> None:
    timing = Timing(1.25, 1.0, 1.5, 40)

    assert timing == Timing.from_json(timing.to_json())


@pytest.mark.parametrize(
    "row",
    [None, [1.0, 1.0, 1.0], [1.0, 2.0, 3.0, 4], [1.0, 1.0, 1.0, 0], [0, 0, 0, 1], ["1", 1.0, 1.0, 1], [1, 1, 1, 1.5]],
)
def test_anything_else_is_no_row(row: object) -> None:
    with pytest.raises(ValueError, match="a timing is"):
        Timing.from_json(row)
