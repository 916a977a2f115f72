"""What report, card and comparison say of the sparse engine: the numbers of the data, and nothing without them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ntksap_export.report import CSV_NAMES, ReportInput, Run, compare_runs, document, render_card, to_html, verdict
from ntksap_export.report.engine import left_table, said
from ntksap_export.report.verdict import theory_words

from .page import HOSTILE, Page, check_self_contained, html_of, without_each_key
from .sample import cell2, profile2, sample

ENTRY: dict[str, Any] = {
    "passed": True,
    "problem": None,
    "file": "model.sparse.onnx",
    "bytes": 9_000_000,
    "regions": 2,
    "nodes": 124,
    "macs_share": 0.9812,
    "left": [{"node": "node_7", "op_type": "ConvTranspose", "reason": "the engine has no such operator"}],
    "speed": {"batch": 1, "threads": 2, "p50_ms": 8.1, "plain_p50_ms": 28.2, "ratio": {"value": 0.287}},
}


def data(engine: tuple[float, float, float] = (0.29, 0.28, 0.31), sparse: float = 1.014, **entry: Any) -> ReportInput:
    """A run with the engine's cell of that ratio; `sparse` is the ratio without the engine."""
    profile = profile2()
    cells = [cell2("dense", 27.7), cell2("sparse", 27.7 * sparse, (sparse, 0.99 * sparse, 1.01 * sparse))]
    profile["cells"] = [*cells, cell2("engine", 27.7 * engine[0], engine), *profile["cells"][2:]]
    whole = sample(profile=profile)
    whole.parity["engine"] = {**ENTRY, **entry}
    whole.sizes["model.sparse.onnx"] = 9_000_000
    return whole


def test_the_line_sets_zeros_alone_beside_zeros_in_the_engine() -> None:
    gains = verdict(data())[2]

    assert (
        "Zeros alone gain nothing (0.99x); with the sparse engine (model.sparse.onnx) it is faster than dense: "
        "8.03 ms, 0.29 times the time of dense, 95 % interval 0.28 to 0.31, so 3.45x." in gains
    )


@pytest.mark.parametrize(
    ("engine", "sparse", "expected"),
    [
        ((0.9, 0.85, 1.02), 1.014, "with the sparse engine (model.sparse.onnx) it is no faster than dense"),
        ((1.4, 1.3, 1.5), 1.014, "with the sparse engine (model.sparse.onnx) it is slower than dense"),
        ((0.4, 0.39, 0.41), 0.7, "With the sparse engine (model.sparse.onnx) it is faster than dense"),
    ],
)
def test_it_claims_what_the_interval_allows(engine: tuple[float, float, float], sparse: float, expected: str) -> None:
    assert expected in verdict(data(engine, sparse))[2]


def test_a_run_without_it_says_nothing_of_it() -> None:
    whole = sample(profile=profile2())

    assert "engine" not in "".join(verdict(whole))
    assert "engine" not in render_card(whole)
    assert ("section", {"id": "engine"}) not in Page(html_of(whole)).tags


def test_theory_is_held_against_the_engine_too() -> None:
    theory = sample().mask["table"]["theoretical_speedup"]
    slow, fast = 1.25 / theory, 0.8 / theory

    assert f"reaches it (the best pair: {1 / slow:.2f}x)" in theory_words(data((slow, slow, slow)))
    assert f"the best pair measured here reaches it ({1 / fast:.2f}x)" in theory_words(data((fast, fast, fast)))


def test_it_claims_no_work_that_is_not_counted_and_says_the_batch() -> None:
    speed = {**ENTRY["speed"], "batch": 4}
    words = " ".join(said({"engine": {**ENTRY, "uncounted": ["LSTM"], "speed": speed}}))

    assert "98.1 % of the counted multiply-accumulates (LSTM: not counted); onnxruntime runs the rest." in words
    assert "(batch 4, 2 threads, a short comparison)" in words


def test_the_section_says_what_the_engine_runs_and_names_what_it_does_not() -> None:
    page = Page(html_of(data()))

    check_self_contained(page)
    assert ("section", {"id": "engine"}) in page.tags
    assert [
        "The engine runs 123 of 124 nodes in 2 regions, 98.1 % of the multiply-accumulates; onnxruntime runs the rest.",
        "At the export it took 8.10 ms against 28.2 ms of model.onnx (batch 1, 2 threads, a short comparison): 3.48x.",
    ] == said(data().parity)
    assert (("node_7", "ConvTranspose", "the engine has no such operator"),) == left_table(data().parity).rows
    assert "ConvTranspose" in page.text


def test_one_that_was_slower_says_which_graph_to_take() -> None:
    told = said(data(speed={**ENTRY["speed"], "p50_ms": 30.0}).parity)

    assert "At the export it was slower, 30.0 ms against 28.2 ms" in told[-1]
    assert told[-1].endswith(": use model.onnx.")


def test_one_that_was_rejected_says_why() -> None:
    told = data(passed=False, problem="model.sparse.onnx: the graph disagrees", speed={})

    assert "model.sparse.onnx: the graph disagrees." == said(told.parity)[0]
    assert "| parity of model.sparse.onnx with the model | FAILED |" in render_card(told)


def test_the_card_tells_how_to_run_it() -> None:
    card = render_card(data())

    code = card.split("```python\n")[2].split("```")[0]
    compile(code, "card", "exec")
    assert "ntksap_export.engine.register(options)" in code
    assert "| parity of model.sparse.onnx with the model | passed |" in card
    assert "| size of model.sparse.onnx | 9.00 MB |" in card


def test_programs_get_its_table() -> None:
    (table,) = (table for table in document(data()).tables() if table.name == "engine")

    assert "node,op_type,reason\nnode_7,ConvTranspose,the engine has no such operator\n" == table.csv()
    assert "engine" in CSV_NAMES


def test_runs_side_by_side_have_columns_for_it() -> None:
    plain = Run("plain", sample(profile=profile2()))
    page = compare_runs([Run("fast", data()), plain])

    table = next(table for table in page.tables() if table.name == "runs")
    fast, other = (dict(zip([column.key for column in table.columns], row, strict=True)) for row in table.rows)
    assert (9_000_000, 0.29) == (fast["engine_bytes"], fast["engine_ratio"])
    assert pytest.approx(27.7 * 0.29) == fast["engine_p50_ms"]
    assert pytest.approx(27.7 * 1.014) == fast["p50_ms"]  # the column of the network without the engine
    assert (None, None, None) == (other["engine_bytes"], other["engine_ratio"], other["engine_p50_ms"])
    assert "fast engine" in to_html(page)


def test_hostile_names_are_text() -> None:
    left = [{"node": HOSTILE, "op_type": HOSTILE, "reason": f"|\n{HOSTILE}"}]
    whole = data(left=left, problem=HOSTILE)

    check_self_contained(Page(html_of(whole)))
    assert "<script>" not in render_card(whole)


def test_any_key_may_be_missing() -> None:
    whole = data()
    for entry in without_each_key(ENTRY):
        told = replace(whole, parity={**whole.parity, "engine": entry})

        assert document(told).sections
        assert render_card(told)
