"""The point of a sweep to take: fronts per place, limits, and the words where nothing meets them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntksap_export.errors import ConfigError
from ntksap_export.pipeline.sweep_choice import Demands, all_points, choose, mark_fronts_


def point(
    accuracy: float | None, p50_ms: float | None, size_bytes: float | None = 1e6, backend: str = "onnxruntime"
) -> dict[str, Any]:
    place = {"backend": backend, "device": "cpu", "batch": 1, "threads": 2}
    values = {"accuracy": accuracy, "p50_ms": p50_ms, "size_bytes": size_bytes}
    return {"precision": "fp32", **place, **values, "on_front": False}


def cells(*points: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"dir": f"cell{number}", "points": [one]} for number, one in enumerate(points)]


def test_places_have_fronts_of_their_own() -> None:
    found = cells(point(0.9, 5.0), point(0.8, 6.0), point(0.7, 9.0, backend="openvino"), point(None, 1.0))
    mark_fronts_([*found, {"dir": "failed"}])

    assert [True, False, True, False] == [one["on_front"] for _, one in all_points(found)]


def test_a_smaller_file_is_worth_a_place_on_the_front() -> None:
    found = cells(point(0.9, 5.0, 4e6), point(0.9, 6.0, 1e6), point(0.9, 6.0, 4e6))
    mark_fronts_(found)

    assert [True, True, False] == [one["on_front"] for _, one in all_points(found)]


def test_without_limits_nothing_is_chosen() -> None:
    chosen, words = choose(cells(point(0.9, 5.0)), Demands())

    assert chosen is None
    assert words.startswith("no limit was given")


def test_the_most_accurate_that_meets_the_limits_then_the_fastest_then_the_smallest() -> None:
    found = cells(
        point(0.95, 5.1), point(0.9, 5.0, 2e6), point(0.9, 4.0, 2e6), point(0.9, 4.0, 1e6), point(0.99, 3.0, 3e6)
    )

    chosen, words = choose(found, Demands(max_latency_ms=5.0, max_size_bytes=2e6))

    assert {"dir": "cell3", **found[3]["points"][0]} == chosen
    assert "chosen: cell3 fp32 in onnxruntime on cpu (batch 1, threads 2): accuracy 90.00%, p50 4 ms, 1 MB" == words


@pytest.mark.parametrize(
    ("demands", "said"),
    [
        (Demands(max_latency_ms=2.5), "cell1 fp32 in onnxruntime on cpu (batch 1, threads 2): accuracy 80.00%, "
         "p50 4 ms, 1 MB, which misses --max-latency 2.5 ms by 60.0%"),
        (Demands(max_size_bytes=5e5), "misses --max-size 0.5 MB by 100.0%"),
        (Demands(min_accuracy=1.0), "cell0 fp32 in onnxruntime on cpu (batch 1, threads 2): accuracy 90.00%, "
         "p50 5 ms, 1 MB, which misses --min-accuracy 1 by 10.0%"),
        # one limit missed by much is nearer than two by little
        (Demands(max_latency_ms=4.5, min_accuracy=0.95), "cell1 fp32"),
        (Demands(max_latency_ms=3.9, min_accuracy=0.95), "misses --max-latency 3.9 ms by 2.6% and "
         "--min-accuracy 0.95 by 15.8%"),
    ],
)  # fmt: skip
def test_where_nothing_meets_the_limits_the_nearest_is_told(demands: Demands, said: str) -> None:
    chosen, words = choose(cells(point(0.9, 5.0), point(0.8, 4.0), point(None, 0.1)), demands)

    assert chosen is None
    assert words.startswith("no point meets the limits; nearest is ")
    assert said in words


def test_without_a_measured_point_the_words_say_so() -> None:
    assert (None, "no point meets the limits: none was measured") == choose([{"dir": "a"}], Demands(max_latency_ms=1.0))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"max_latency_ms": 0.0}, "--max-latency must be above 0 ms; got 0"),
        ({"max_latency_ms": float("nan")}, "--max-latency must be above 0 ms; got nan"),
        ({"max_latency_ms": float("inf")}, "--max-latency must be above 0 ms; got inf"),
        ({"max_size_bytes": -1e6}, "--max-size must be above 0 MB; got -1"),
        ({"min_accuracy": 92.0}, "--min-accuracy must be in [0, 1]; got 92. For 92 % write --min-accuracy 0.92"),
        ({"min_accuracy": -0.1}, "--min-accuracy must be in [0, 1]; got -0.1"),
        ({"min_accuracy": float("nan")}, "--min-accuracy must be in [0, 1]; got nan"),
    ],
)
def test_limits_out_of_range_are_refused(values: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Demands(**values)

    assert said == str(caught.value)


SMALL = st.integers(1, 4).map(float)
SOME_POINTS = st.lists(st.builds(point, SMALL.map(lambda value: value / 4), SMALL, SMALL), max_size=8)
SOME_DEMANDS = st.builds(
    Demands, st.none() | SMALL, st.none() | SMALL, st.none() | SMALL.map(lambda value: value / 4)
).filter(bool)


@given(SOME_POINTS, SOME_DEMANDS)
def test_what_is_chosen_meets_every_limit_and_is_on_the_front(points: list[dict[str, Any]], demands: Demands) -> None:
    found = cells(*points)
    mark_fronts_(found)
    meeting = [one for one in points if not demands.missed(one)]

    chosen, _ = choose(found, demands)

    assert (chosen is None) == (not meeting)
    if chosen is not None:
        assert not demands.missed(chosen)
        assert chosen["on_front"]
        assert max(one["accuracy"] for one in meeting) == chosen["accuracy"]
