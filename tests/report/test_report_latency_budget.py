"""A latency that was asked stands in the report beside what was promised and measured."""

from __future__ import annotations

from ntksap_export.report.facts import run_rows

from .sample import sample

TOLD = {
    "asked_ms": 5.0,
    "promised_ms": 4.9312,
    "measured_ms": 4.97,
    "ci_ms": [4.9, 5.02],
    "dense_ms": 8.1,
    "narrowest_ms": 0.9,
    "iterations": 2,
    "table_digest": "0",
    "backend": "onnxruntime",
    "device": "cpu",
    "batch": 1,
    "threads": 2,
}


def test_the_three_stand_side_by_side() -> None:
    rows = dict(run_rows(sample(mask={**sample().mask, "latency": TOLD})))

    assert rows["latency budget"] == (
        "asked 5 ms, promised 4.931 ms, measured 4.97 ms (4.9 to 5.02); dense 8.1 ms, narrowest 0.9 ms; "
        "onnxruntime on cpu, batch 1, 2 threads"
    )


def test_without_one_there_is_no_such_row() -> None:
    assert "latency budget" not in dict(run_rows(sample()))
