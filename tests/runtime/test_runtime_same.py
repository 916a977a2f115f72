"""Two graphs on the same noise: whatever their inputs and outputs are, a difference is found."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ntksap_export.errors import ExportError
from ntksap_export.runtime.same import compare_graphs

HEAD = '<ir_version: 8, opset_import: ["" : 16]> g'
TWO = (
    "(float[n, 3, h, w] x, int64[2] k, bool[n] flag) => (float[n, 3] y, int64[2] z) "
    "{ m = ReduceMean<axes = [2, 3], keepdims = 0>(x) f = Cast<to = 1>(flag) u = Unsqueeze(f, one) "
    "a = Add(m, u) y = Mul(a, s) z = Add(k, k) }"
)


def graph(scale: float = 1.0, text: str = TWO) -> bytes:
    proto = onnx.parser.parse_model(f"{HEAD} {text}")
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, scale], np.float32), "s"))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
    return bytes(proto.SerializeToString())


def test_equal_graphs_agree_in_every_output_batch_and_level() -> None:
    checks = compare_graphs(graph(), graph(), size=5, atol=1e-6, rtol=0)

    seen = [(item.output, item.batch, item.optimization) for item in checks]
    assert [(name, batch, level) for batch in (1, 2) for level in ("off", "all") for name in "yz"] == seen
    assert all(item.passed and item.max_abs == 0 for item in checks)
    assert {1.0, None} == {item.top1 for item in checks}


def test_a_difference_is_measured_against_both_tolerances() -> None:
    found = compare_graphs(graph(), graph(1.01), size=5, atol=0, rtol=1e-3)

    worst = max(found, key=lambda item: item.max_abs)
    assert ("y", False) == (worst.output, worst.passed)
    assert 0 < worst.max_abs <= 0.0101 * worst.scale
    assert all(item.passed for item in compare_graphs(graph(), graph(1.01), size=5, atol=0, rtol=0.0101))
    assert all(item.passed for item in compare_graphs(graph(), graph(1.01), size=5, atol=0.03, rtol=0))
    assert all(item.passed for item in found if item.output == "z")


def test_what_is_not_finite_must_be_equal() -> None:
    assert all(item.passed for item in compare_graphs(graph(np.nan), graph(np.nan), size=5, atol=0, rtol=0))
    found = compare_graphs(graph(), graph(np.nan), size=5, atol=9, rtol=9)
    assert {"y": {False}, "z": {True}} == {n: {i.passed for i in found if i.output == n} for n in "yz"}
    assert float("inf") == max(item.max_abs for item in found)


def test_a_fixed_batch_is_run_once() -> None:
    text = "(float[4, 3] x) => (float[4, 3] y) { y = Mul(x, s) }"

    assert [1, 1] == [item.batch for item in compare_graphs(graph(1, text), graph(1, text), size=5, atol=0, rtol=0)]


@pytest.mark.parametrize(
    ("before", "message"),
    [
        (b"nothing", r"onnxruntime cannot run the graph \(.*\); --no-check goes on without comparing"),
        (graph(text="(string[n] x) => (string[n] y) { y = Identity(x) }"), r"input 'x' \(tensor\(string\)\)"),
        (
            graph(text="(float[n, c] x) => (float[m, 3] y) { k = Constant<value_ints = [-1, 7]>() y = Reshape(x, k) }"),
            r"cannot run the graph on noise \(.*\); give the side of its images with --image-size, or --no-check",
        ),
    ],
)
def test_what_cannot_be_run_is_an_error_that_says_how_to_go_on(before: bytes, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        compare_graphs(before, before, size=5, atol=0, rtol=0)
