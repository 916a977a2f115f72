from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ntksap_export.profiling.noise import drift, noise_facts, verdict

QUIET = {"iqr_over_median": 0.01, "drift": 0.0, "throttled": None, "other_load": None, "steal": None, "subnormals": 0}


@pytest.mark.parametrize(
    ("facts", "runs", "said"),
    [
        ({}, 100, "steady"),
        ({}, 99, "steady, but p99 rests on 99 runs"),
        ({"iqr_over_median": 0.1}, 100, "steady"),
        (
            {"iqr_over_median": 0.5},
            9,
            "noisy: the middle half of the runs spreads over 50% of the median; p99 rests on 9 runs",
        ),
        ({"drift": 0.05}, 100, "steady"),
        ({"drift": -0.2}, 100, "noisy: the median drifted by -20% from the first turn to the last"),
        (
            {"throttled": True, "throttle_events": {"heat": 3, "cpu_quota": 0}},
            100,
            "noisy: the CPU was throttled (heat)",
        ),
        ({"throttled": False}, 100, "steady"),
        ({"clock_mhz": [2000.0, 3000.0]}, 100, "noisy: the clock was between 2.0 and 3.0 GHz"),
        ({"clock_mhz": [2800.0, 3000.0]}, 100, "steady"),
        ({"other_load": 0.3, "steal": 0.02}, 100, "noisy: other processes took 30% of these cores"),
        ({"steal": 0.1}, 100, "noisy: other guests of the host took 10% of these cores"),
        ({"subnormals": 1204}, 100, "noisy: 1,204 subnormal numbers, which many CPUs handle many times slower"),
        (
            {"iqr_over_median": 0.5, "subnormals": 1},
            100,
            "noisy: the middle half of the runs spreads over 50% of the median; "
            "1 subnormal numbers, which many CPUs handle many times slower",
        ),
    ],
)
def test_verdict_in_words(facts: dict[str, Any], runs: int, said: str) -> None:
    assert said == verdict({**QUIET, **facts}, runs)


@pytest.mark.parametrize(
    ("percentiles", "runs", "said"),
    [
        ((50, 90), 10, "steady"),
        ((50, 90), 9, "steady, but p90 rests on 9 runs"),
        ((99, 99.9), 999, "steady, but p99.9 rests on 999 runs"),
        ((99, 99.9), 1000, "steady"),
        ((100,), 1, "steady"),
    ],
)
def test_a_percentile_that_few_runs_carry_is_named(percentiles: tuple[float, ...], runs: int, said: str) -> None:
    assert said == verdict(QUIET, runs, percentiles)


def test_facts_are_shares_of_the_cores_time() -> None:
    cpu = {"total": 10.0, "busy": 9.0, "own": 6.0, "steal": 0.5}

    facts = noise_facts({"p50": 2.0, "iqr": 0.5}, [2.0] * 3, cpu, {"heat": None, "cpu_quota": 2})

    assert {
        "iqr_over_median": 0.25,
        "drift": None,
        "throttled": True,
        "throttle_events": {"heat": None, "cpu_quota": 2},
        "clock_mhz": None,
        "other_load": 0.3,
        "steal": 0.05,
    } == facts


def test_what_the_machine_does_not_tell_is_none_and_own_time_is_no_other_load() -> None:
    facts = noise_facts({"p50": 2.0, "iqr": 0.5}, [], {}, {"heat": None})
    rounded = noise_facts({"p50": 2.0, "iqr": 0.5}, [], {"total": 1.0, "busy": 0.99, "own": 1.0, "steal": 0.0}, {})

    assert [None] * 4 == [facts[key] for key in ("drift", "throttled", "other_load", "steal")]
    assert 0.0 == rounded["other_load"]


def test_drift_is_the_change_from_the_first_turn_to_the_last() -> None:
    assert 1.0 / 1.5 == pytest.approx(drift([1.0 + 0.1 * turn for turn in range(11)]))
    assert -0.2 == pytest.approx(drift([1.1, 1.06, 1.02, 0.98, 0.94, 0.9]))
    assert drift([1.0, 2.0, 3.0, 4.0, 5.0]) is None


def test_noise_without_a_trend_is_seldom_called_drift() -> None:
    draw = np.random.default_rng(0)

    called = sum(drift(draw.normal(1, 0.2, 10).tolist()) != 0.0 for _ in range(500))

    assert called <= 0.08 * 500
