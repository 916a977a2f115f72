"""The page of a sweep: the front of each place, the chosen point, the limits, the reasons of what was skipped."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntksap_export.report import render_sweep
from ntksap_export.report.plots import svg
from ntksap_export.report.sweep import document, limit_of
from ntksap_export.report.tradeoff import Measure, Point, pareto, tradeoff

from .page import Page, check_self_contained, hostile, without_each_key

COSTS = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1)), max_size=25)


def point(p50: float, accuracy: float | None, **changes: Any) -> dict[str, Any]:
    return {
        "variant": "sparse",
        "precision": "fp32",
        "backend": "onnxruntime",
        "device": "cpu",
        "batch": 1,
        "threads": 2,
        "p50_ms": p50,
        "ci_ms": [0.98 * p50, 1.02 * p50],
        "size_bytes": 1_100_000,
        "run_peak_rss_bytes": 90_000_000,
        "accuracy": accuracy,
        "on_front": False,
        **changes,
    }


def sweep() -> dict[str, Any]:
    """A dense network, two pruned ones in two precisions on two backends, one that was skipped."""
    cells = [
        {
            "dir": "dense",
            "model": "resnet20",
            "method": "magnitude",
            "pattern": "unstructured",
            "sparsity": 0.0,
            "status": "done",
            "reason": None,
            "accuracy": 0.95,
            "points": [point(5.0, 0.95)],
        }
    ]
    for sparsity, accuracy in ((0.8, 0.93), (0.9, 0.9)):
        points = [
            point(5.1, accuracy, on_front=True),
            point(3.0, accuracy - 0.01, precision="int8", size_bytes=300_000),
            point(9.0, accuracy, backend="torch"),
            point(5.0, None, variant="dense"),
        ]
        cells.append(
            {
                "dir": f"snip-{sparsity}",
                "model": "resnet20",
                "method": "snip",
                "pattern": "unstructured",
                "sparsity": sparsity,
                "status": "done",
                "reason": None,
                "accuracy": accuracy,
                "points": points,
            }
        )
    cells.append({**cells[-1], "dir": "bad", "status": "skipped", "reason": "no such pattern", "points": []})
    return {
        "schema": 1,
        "command": "ntksap sweep resnet20 --sparsity 0.8,0.9 --max-latency 4",
        "environment": {"cpu": "Intel Xeon", "cores": 2, "versions": {"torch": "2.13.0"}},
        "axes": {"sparsity": [0.8, 0.9], "method": ["snip"]},
        "limits": {"max_latency_ms": 4.0, "max_size_bytes": None, "min_accuracy": 0.85},
        "cells": cells,
        "chosen": {"dir": "snip-0.8", **point(3.0, 0.92, precision="int8")},
    }


def test_the_page_says_what_was_swept_and_chosen_and_why_a_cell_is_missing() -> None:
    page = Page(render_sweep(sweep()))
    check_self_contained(page)

    for words in (
        "3 of 4 cells measured, 9 points.",
        "resnet20, snip, unstructured, sparsity 80.0 %, int8: accuracy 92.0 %, 3.00 ms, 300 kB, under max latency",
        "resnet20, dense, fp32: accuracy 95.0 %",
        "no such pattern",
        "at most 4.00 ms",
        "at least 85.0 %",
        "ntksap sweep resnet20 --sparsity 0.8,0.9 --max-latency 4",
    ):
        assert words in page.text
    assert len(page.pictures) == 5  # latency and memory on two backends, and the size
    assert all(len(title) > 10 and "top-1 accuracy, %" in words for title, *words in page.pictures)


def test_a_dense_twin_has_no_accuracy_of_the_pruned_network() -> None:
    tree = sweep()
    for cell in tree["cells"]:
        for one in cell["points"]:
            if one["accuracy"] is None:
                del one["accuracy"]
    (table,) = [table for table in document(tree).tables() if table.name == "points"]

    assert [None, None] == [row["accuracy"] for row in table.records() if row["variant"] == "dense"]


def test_one_point_is_chosen() -> None:
    (table,) = [table for table in document(sweep()).tables() if table.name == "points"]
    chosen = [row for row in table.records() if row["chosen"]]

    assert [("snip-0.8", "int8")] == [(row["dir"], row["precision"]) for row in chosen]
    assert 3 == render_sweep(sweep()).count('r="9"')  # latency, memory, size; and nothing else


@pytest.mark.parametrize("chosen", [None, {}, {"precision": "int8"}])
def test_without_a_choice_none_is_marked(chosen: Any) -> None:
    markup = render_sweep({**sweep(), "chosen": chosen})

    assert 'r="9"' not in markup
    assert "No point meets max latency 4.00 ms; min accuracy 85.0 %." in Page(markup).text


def test_the_verdict_of_the_sweep_is_told() -> None:
    tree = {**sweep(), "chosen": None, "verdict": "no point meets the limits; nearest is dense"}

    assert "No point meets the limits; nearest is dense." == dict(document(tree).lines)["Chosen"]


def test_places_where_nothing_ran_are_listed_with_the_cells_that_were_skipped() -> None:
    place = {"backend": "torch", "device": "cuda", "batch": 1, "threads": 2, "reason": "no CUDA device"}
    tree = {**sweep(), "skipped": [place]}
    (table,) = [table for table in document(tree).tables() if table.name == "skipped"]

    assert ["no such pattern", "no CUDA device"] == [row["reason"] for row in table.records()]
    assert ["bad", None] == [row["dir"] for row in table.records()]


def test_limits_are_found_by_what_they_limit() -> None:
    tree = sweep()

    assert [4.0, None, 0.85] == [limit_of(tree, name) for name in ("latency", "size", "accuracy")]


@given(COSTS)
def test_nothing_beats_the_front_and_the_front_beats_the_rest(points: list[tuple[float, float]]) -> None:
    front = pareto(points)

    assert [points[i][0] for i in front] == sorted(points[i][0] for i in front)
    for place, (cost, gain) in enumerate(points):
        beaten = any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in points)
        same = any(points[i] == (cost, gain) for i in front)
        assert same != beaten
        assert place not in front or not beaten


def test_a_wide_range_has_a_logarithmic_axis() -> None:
    measure = Measure("latency", "latency, ms", 1.0, str)

    def ticks(costs: list[float]) -> list[str]:
        points = [Point("a", "fp32", "", "", 0.1 * i, {"latency": cost}) for i, cost in enumerate(costs)]
        figure = tradeoff(points, measure, where="here")
        assert figure is not None
        return re.findall(r'text-anchor="middle" font-size="10.5">([^<]*)<', figure.picture)

    assert ["1", "2", "5", "10", "20", "50", "100"] == ticks([1, 100])
    assert ["0", "2", "4", "6", "8"] == ticks([2, 8])


def test_nothing_known_is_no_picture() -> None:
    points = [Point("a", "fp32", "", "", None, {"latency": 1.0}), Point("a", "fp32", "", "", 0.5, {"latency": None})]

    assert tradeoff(points, Measure("latency", "latency, ms", 1.0, str), where="") is None


def test_hostile_names_are_text() -> None:
    page = Page(render_sweep(hostile(sweep())))
    check_self_contained(page)

    assert "b" not in {tag for tag, _ in page.tags}


def test_any_key_may_be_missing() -> None:
    tree = sweep()
    tree["cells"] = [tree["cells"][1], tree["cells"][-1]]
    for changed in without_each_key(tree):
        assert "</html>" in render_sweep(changed)
    assert "Accuracy was not measured." in render_sweep({})


def test_the_form_of_a_dot_tells_its_precision_and_its_colour_its_method() -> None:
    markup = render_sweep(sweep())

    assert svg.colour(0) in markup and svg.colour(1) in markup
    assert {"dense", "snip, unstructured", "fp32", "int8", "front"} <= set(Page(markup).pictures[0])
