from __future__ import annotations

import json
import math

import numpy as np
import pytest

from ntksap_export.profiling.statistics import (
    CI_LEVEL,
    MIN_TURNS,
    half_width,
    median_interval,
    percentile_name,
    ratio_interval,
    summarize,
)


def test_summary_of_eleven_runs_by_hand() -> None:
    times = [11.0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1]

    summary = summarize(times, batch=4)

    assert {
        "p50": 6,
        "p90": 10,
        "p95": 10.5,
        "p99": 10.9,
        "mean": 6,
        "min": 1,
        "max": 11,
        "iqr": 5,
    } == pytest.approx(summary["latency_ms"])
    assert 4 * 1000 / 6 == pytest.approx(summary["throughput_images_per_s"])
    assert 11 == summary["runs"]


def test_percentiles_are_those_asked_for_and_the_median() -> None:
    latency = summarize([20.0, 10.0], batch=1, percentiles=(99.9, 25, 100))["latency_ms"]

    assert ["p25", "p50", "p99.9", "p100", "mean", "min", "max", "iqr"] == list(latency)
    assert [12.5, 15, 19.99, 20, 15, 10, 20, 5] == pytest.approx(list(latency.values()))


@pytest.mark.parametrize(("level", "name"), [(50, "p50"), (99.0, "p99"), (99.9, "p99.9"), (99.99, "p99.99")])
def test_names_of_percentiles(level: float, name: str) -> None:
    assert name == percentile_name(level)


def test_throughput_follows_the_median_not_the_outlier() -> None:
    summary = summarize([2.0] * 9 + [2000.0], batch=8)

    assert 4000.0 == summary["throughput_images_per_s"]
    assert 2000.0 == summary["latency_ms"]["max"]


def test_one_run_is_its_own_summary() -> None:
    summary = summarize([2.5], batch=1)

    assert {2.5, 0.0} == set(summary["latency_ms"].values())
    assert (400.0, 1) == (summary["throughput_images_per_s"], summary["runs"])


def test_summary_is_plain_json() -> None:
    summary = summarize(np.array([1.0, 2.0], np.float32), batch=2)

    assert summary == json.loads(json.dumps(summary, allow_nan=False))


@pytest.mark.parametrize(
    ("turns", "ranks"), [(6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (12, (3, 10)), (20, (6, 15)), (60, (22, 39))]
)
def test_interval_of_the_median_is_the_table_of_the_sign_test(turns: int, ranks: tuple[int, int]) -> None:
    shuffled = np.random.default_rng(0).permutation(np.arange(1.0, turns + 1))

    assert (*ranks, CI_LEVEL) == median_interval(list(shuffled))


def test_few_turns_say_what_their_range_is_worth() -> None:
    low, high, level = median_interval([3.0, 1.0, 2.0])

    assert (1.0, 3.0) == (low, high)
    assert 1 - 2 * 0.5**3 == level
    assert (5.0, 5.0, 0.0) == median_interval([5.0])


@pytest.mark.parametrize("turns", [6, 9, 20])
def test_the_median_lies_in_its_interval_at_least_as_often_as_said(turns: int) -> None:
    draw = np.random.default_rng(1)
    inside = 0
    for _ in range(2000):
        low, high, _ = median_interval(list(draw.gamma(2.0, 1.0, turns)))
        inside += low <= 1.6783469900166608 <= high

    assert CI_LEVEL - 0.015 <= inside / 2000


@pytest.mark.parametrize(("turns", "most"), [(6, 0.985), (20, 0.995)])
def test_the_ratio_lies_in_its_interval_about_as_often_as_said(turns: int, most: float) -> None:
    draw = np.random.default_rng(2)
    inside = 0
    for _ in range(600):
        machine = draw.normal(0, 0.1, turns)  # what both met
        mine = 3.0 * np.exp(machine + draw.normal(0, 0.02, turns))
        other = 2.0 * np.exp(machine + draw.normal(0, 0.02, turns))
        found = ratio_interval(dict(enumerate(mine)), dict(enumerate(other)), draws=400)
        assert found is not None
        inside += found[1] <= 1.5 <= found[2]

    assert 0.92 <= inside / 600 <= most


def test_ratio_is_of_the_medians_and_pairs_cancel_what_both_met() -> None:
    machine = np.linspace(1, 3, 12)
    mine, other = dict(enumerate(machine * 1.2)), dict(enumerate(machine))

    assert pytest.approx((1.2, 1.2, 1.2)) == ratio_interval(mine, other)


def test_ratio_takes_the_turns_that_both_had_and_is_repeatable() -> None:
    mine, other = {0: 100.0, 1: 2.0, 2: 4.0, 3: 6.0}, {1: 1.0, 2: 2.5, 3: 3.0, 4: 50.0}

    found = ratio_interval(mine, other)

    assert found is not None
    assert 4.0 / 2.5 == found[0]
    assert found == ratio_interval(mine, other)
    assert ratio_interval({0: 1.0}, {1: 1.0}) is None


def test_half_width_is_a_share_of_the_median() -> None:
    assert math.inf == half_width([1.0] * (MIN_TURNS - 1))
    assert 0.0 == half_width([1.0] * MIN_TURNS)
    assert 0.05 == pytest.approx(half_width([0.95, 1, 1, 1, 1, 1.05]))
