"""Node times of the sparse engine: its node split into operators, times and work where they belong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ntksap_export.engine import convert
from ntksap_export.graph import Graph
from ntksap_export.profiling.engine_rows import with_operators
from tests.runtime.precision_cases import small_graph
from tests.support.engine import needs_engine

CONV: dict[str, Any] = {
    "number": 7, "kind": "conv", "images": 1, "input": [16, 8, 8], "output": [32, 8, 8], "us": 4.0,
    "kernel_size": [3, 3], "density": 0.25, "macs": 73_728, "kernel": "sparse", "bytes": 6_912,
}  # fmt: skip
POOL: dict[str, Any] = {
    "number": 8, "kind": "global_pool", "images": 1, "input": [32, 8, 8], "output": [32, 1, 1], "us": 1.0,
}  # fmt: skip


def row(node: str, op: str, ms: float) -> dict[str, Any]:
    return {"node": node, "op": op, "module": "fc", "ms": ms, "share": ms / 0.01, "is_int8": False, "in_use_bytes": 5}


def test_the_engines_node_becomes_its_operators_and_what_is_left_of_its_time() -> None:
    rows = with_operators([row("body", "SparseBody", 0.006), row("fc", "Gemm", 0.003)], {"body": [CONV, POOL]}, 0.01)

    conv, pool, rest, other = rows
    assert ["7 conv 3x3 16>32 8x8 25%", "8 global_pool 32>32 1x1", "SparseBody, the rest", "Gemm"] == [
        each["op"] for each in rows
    ]
    assert ["body/7", "body/8", "body", "fc"] == [each["node"] for each in rows]
    assert pytest.approx([0.004, 0.001, 0.001, 0.003]) == [each["ms"] for each in rows]
    assert pytest.approx([0.4, 0.1, 0.1, 0.3]) == [each["share"] for each in rows]
    assert (73_728, 73_728, None) == (conv["macs"], conv["nonzero_macs"], conv["module"])
    assert pytest.approx(2 * 73_728 / 0.004 / 1e6) == conv["gflops"]
    assert 6_912 + 4 * (16 + 32) * 64 == conv["bytes"]
    assert (0, None, None) == (pool["macs"], pool["gflops"], pool["intensity"])
    assert row("fc", "Gemm", 0.003) == other
    assert "SparseBody, the rest" == rest["op"]


def test_operators_that_took_longer_alone_leave_nothing() -> None:
    rows = with_operators([row("body", "SparseBody", 0.002)], {"body": [CONV]}, 0.01)

    assert pytest.approx([0.004, 0.0]) == [each["ms"] for each in rows]


def test_rows_of_other_graphs_stay() -> None:
    rows = [row("fc", "Gemm", 0.003)]

    assert rows == with_operators(rows, {}, 0.01)


@needs_engine
def test_a_plan_tells_of_each_operator_in_order(tmp_path: Path) -> None:
    from ntksap_export.runtime.tracing.engine import bodies, operators

    convert(small_graph()).graph.save(tmp_path / "body.onnx")

    ((name, plan),) = bodies(Graph.load(tmp_path / "body.onnx")).items()
    told = operators(plan, 1)

    assert name.startswith("sparse_body")
    assert ["conv", "conv", "global_pool", "conv"] == [each["kind"] for each in told]
    assert sorted(each["number"] for each in told) == [each["number"] for each in told]
    assert all(each["us"] >= 0 for each in told)
    assert [3, 8, 8] == told[0]["input"]
