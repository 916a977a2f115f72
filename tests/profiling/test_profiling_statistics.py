from __future__ import annotations

import json

import numpy as np
import pytest

from ntksap_export.profiling.statistics import noise_verdict, summarize


def test_summary_of_eleven_runs_by_hand() -> None:
    times = [11.0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1]

    summary = summarize(times, batch=4)

    assert {"p50": 6, "p90": 10, "p99": 10.9, "mean": 6, "min": 1, "max": 11, "iqr": 5} == pytest.approx(
        summary["latency_ms"]
    )
    assert 4 * 1000 / 6 == pytest.approx(summary["throughput_images_per_s"])
    assert 11 == summary["runs"]
    assert summary["noise"].startswith("noisy: ")


def test_percentiles_lie_between_two_runs_in_proportion() -> None:
    latency = summarize([20.0, 10.0], batch=1)["latency_ms"]

    assert {"p50": 15, "p90": 19, "p99": 19.9, "mean": 15, "min": 10, "max": 20, "iqr": 5} == pytest.approx(latency)


def test_throughput_follows_the_median_not_the_outlier() -> None:
    summary = summarize([2.0] * 9 + [2000.0], batch=8)

    assert 4000.0 == summary["throughput_images_per_s"]
    assert 2000.0 == summary["latency_ms"]["max"]


def test_one_run_is_its_own_summary() -> None:
    summary = summarize([2.5], batch=1)

    assert {2.5, 0.0} == set(summary["latency_ms"].values())
    assert (400.0, 1) == (summary["throughput_images_per_s"], summary["runs"])
    assert "steady, but p99 rests on 1 runs" == summary["noise"]


def test_summary_is_plain_json() -> None:
    summary = summarize(np.array([1.0, 2.0], np.float32), batch=2)

    assert summary == json.loads(json.dumps(summary, allow_nan=False))


@pytest.mark.parametrize(
    ("iqr", "median", "runs", "verdict"),
    [
        (0.0, 2.0, 100, "steady"),
        (0.2, 2.0, 100, "steady"),
        (0.2, 2.0, 99, "steady, but p99 rests on 99 runs"),
        (0.21, 2.0, 100, "noisy: the middle half of the runs spreads over 10% of the median"),
        (1.0, 2.0, 9, "noisy: the middle half of the runs spreads over 50% of the median"),
        (0.0, 0.0, 100, "steady"),
    ],
)
def test_noise_verdict(iqr: float, median: float, runs: int, verdict: str) -> None:
    assert verdict == noise_verdict(iqr, median, runs)


def test_a_single_outlier_in_many_runs_is_not_noise() -> None:
    assert "steady" == summarize([1.0] * 199 + [50.0], batch=1)["noise"]
