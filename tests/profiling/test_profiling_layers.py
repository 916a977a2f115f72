from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ntksap_export import networks
from ntksap_export.errors import UnavailableError
from ntksap_export.graph import Graph, export
from ntksap_export.graph.costs import NodeCost, node_costs
from ntksap_export.graph.marks import Marked, marked
from ntksap_export.profiling import layers
from ntksap_export.profiling.cells import Variant
from ntksap_export.profiling.layers import common_module, graph_rows, measure_layers, share_of_peak
from ntksap_export.profiling.settings import Settings
from ntksap_export.runtime import backends, quantize
from ntksap_export.runtime.tracing import events
from ntksap_export.runtime.tracing.traced import NodeTime, Trace
from tests.profiling.profiling_cases import write_graph
from tests.runtime.precision_cases import small_graph
from tests.runtime.tracing_cases import LOADING, call, node

# As onnxruntime names what it makes of small_graph: the first convolution has taken in the ReLU, the second the sum.
PROFILE = [
    *LOADING,
    node("v~1~0_nchwc", 10, 40, index=9),
    node("v~2~0_nchwc", 60, 20, index=10),
    node("ReorderOutput", 85, 1, op="ReorderOutput", index=11),
    node("HardSwish~4~", 90, 2, op="HardSwish", index=12),
    node("GlobalAveragePool~5~", 95, 1, op="GlobalAveragePool", index=13),
    node("Gemm~7~", 97, 1, op="Gemm", index=14),
    *call(0, 100),
]


def rows_of(graph: Graph, batch: int) -> list[dict[str, Any]]:
    (run,) = events.runs(PROFILE)
    trace = Trace(events.node_times([run]), run.ms, 0.08, 1, "by hand")
    return graph_rows(trace, marked(graph), node_costs(graph, (batch, 3, 8, 8)))


def test_a_hand_made_profile_gives_these_rows() -> None:
    graph = small_graph()
    values = dict(graph.weights())

    rows = rows_of(graph, batch=2)

    first, second, reorder, swish, pool, gemm = rows
    assert [row["module"] for row in rows] == ["conv1", "conv2", None, None, None, "fc"]
    assert [row["op"] for row in rows] == ["Conv", "Conv", "ReorderOutput", "HardSwish", "GlobalAveragePool", "Gemm"]
    assert [row["share"] for row in rows] == pytest.approx([0.4, 0.2, 0.01, 0.02, 0.01, 0.01])
    assert [row["macs"] for row in rows] == [2 * 64 * 8 * 27, 2 * 64 * 8 * 72, 0, 0, 0, 2 * 40]
    assert [row["nonzero_macs"] for row in (first, second, gemm)] == [
        2 * 64 * int(np.count_nonzero(values["conv1.weight"])),
        2 * 64 * int(np.count_nonzero(values["conv2.weight"])),
        2 * int(np.count_nonzero(values["fc.weight"])),
    ]
    assert first["gflops"] == 2 * 27648 / 40e-6 / 1e9
    assert first["bytes"] == 100 + 64 + 8 * 27 * 4  # the weight was packed: the profile has 36 bytes of it
    assert first["intensity"] == 2 * 27648 / first["bytes"]
    assert (swish["gflops"], swish["intensity"], reorder["bytes"]) == (None, None, 200)
    assert pool["ms"] == 0.001


def test_shares_and_the_rest_are_the_whole() -> None:
    rows = rows_of(small_graph(), batch=1)
    summary = layers._summary(Trace((), 0.1, 0.08, 1, "by hand"), rows)

    assert summary["unattributed_ms"] == pytest.approx(0.035)
    assert sum(row["share"] for row in rows) + summary["unattributed_ms"] / 0.1 == pytest.approx(1.0)


def test_a_product_counts_in_one_node_only() -> None:
    costs = [NodeCost("c", "Conv", "a.c", 10, 5, 4, False, ()), NodeCost("r", "Relu", None, 0, 0, 0, False, (0,))]
    times = tuple(NodeTime(name, op, 1.0) for name, op in (("Conv~0~_in", "ReorderInput"), ("v~1~0", "FusedConv")))

    rows = graph_rows(Trace(times, 2.0, 2.0, 1, ""), Marked(small_graph(), {}), costs)

    assert [(row["macs"], row["module"]) for row in rows] == [(0, None), (10, "a.c")]


def test_what_multiplies_and_leads_nowhere_has_no_count() -> None:
    rows = graph_rows(Trace((NodeTime("fused", "FusedMatMul", 1.0),), 1.0, 1.0, 1, ""), Marked(small_graph(), {}), ())

    assert [(row["node"], row["macs"], row["gflops"], row["module"]) for row in rows] == [("fused", None, None, None)]


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        ([], None),
        (["a.b"], "a.b"),
        (["a.b.q", "a.b.k"], "a.b"),
        (["layer1.0", "layer10.0"], None),
        (["a.b", "a"], "a"),
    ],
)
def test_several_modules_in_one_node(modules: list[str], expected: str | None) -> None:
    assert expected == common_module(modules)


@pytest.mark.parametrize(
    ("gflops", "threads", "precision", "expected"),
    [(50.0, 1, "fp32", 0.5), (50.0, 2, "fp32", None), (50.0, 1, "int8", 0.125), (50.0, 1, "fp16", None),
     (None, 1, "fp32", None), (50.0, 1, "bf16", None)],
)  # fmt: skip
def test_the_share_is_of_the_peak_of_the_same_threads_and_numbers(
    gflops: float | None, threads: int, precision: str, expected: float | None
) -> None:
    machine = {"peak_gflops": {"1": 100.0}, "peak_gflops_int8": {"1": 400.0}, "peak_gflops_bf16": {"1": None}}

    assert expected == share_of_peak(gflops, machine, threads, precision)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v2"])
def test_each_layer_of_a_network_finds_its_module(
    name: str, backend: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := backends.unavailable(backend):
        pytest.skip(reason)
    if backend == "openvino":
        monkeypatch.setattr("ntksap_export.runtime.tracing.ov._TURNS", 2)  # each compiles the network anew
    model = networks.build(name, num_classes=10).eval()
    graph = export(model, torch.zeros(1, 3, 32, 32))
    if precision == "int8":
        draw = np.random.default_rng(0)
        ranges = quantize.calibrate(graph, [draw.standard_normal((2, 3, 32, 32), dtype=np.float32)], "minmax")
        graph = quantize.quantize(graph, ranges)
    graph.save(tmp_path / "model.onnx")
    spec = {"backend": backend, "graph": str(tmp_path / "model.onnx"), "shape": [3, 32, 32], "device": "cpu"}

    found = layers.watch_here({**spec, "batch": 2, "threads": 1, "seconds": 0.0, "precision": precision})

    expected = {cost.module: cost.macs for cost in node_costs(graph, (2, 3, 32, 32)) if cost.macs}
    assert expected == {row["module"]: row["macs"] for row in found["nodes"] if row["macs"]}
    assert all(row["is_int8"] == (precision == "int8") for row in found["nodes"] if row["macs"])
    assert not [row["op"] for row in found["nodes"] if row["macs"] is None]
    assert sum(row["share"] for row in found["nodes"]) + found["unattributed_ms"] / found["total_ms"] == pytest.approx(
        1
    )
    assert found["plain_ms"] > 0
    assert found["runs"] >= 6


def test_activations_peak_where_two_values_live_at_once(tmp_path: Path) -> None:
    small_graph().save(tmp_path / "model.onnx")
    spec = {"backend": "onnxruntime", "graph": str(tmp_path / "model.onnx"), "shape": None, "device": "cpu"}

    found = layers.watch_here({**spec, "batch": 16, "threads": 1, "seconds": 0.0, "precision": "fp32"})

    one = 16 * 8 * 64 * 4  # bytes of a value between two layers
    assert 2 * one <= found["activation_peak_bytes"] <= 3 * one
    assert found["activation_peak_reason"] is None
    assert found["activation_peak_bytes"] == max(node["in_use_bytes"] for node in found["nodes"])


def test_variants_are_watched_side_by_side_in_fresh_processes(tmp_path: Path) -> None:
    sparse, other = write_graph(tmp_path / "sparse.onnx"), tmp_path / "none.onnx"
    variants = [
        Variant("sparse", sparse, None, None, (3, 4, 4)),
        Variant("gone", other, None, None, (3, 4, 4)),
    ]
    settings = Settings(("onnxruntime", "torch"), ("cpu",), (2,), (1,), min_time_s=0.01)

    found = measure_layers(variants, settings, {"peak_gflops": {"1": 100.0}})

    heads = [(row["variant"], row["backend"], row["batch"], row["threads"], row["status"]) for row in found]
    assert heads == [
        ("sparse", "onnxruntime", 2, 1, "measured"),
        ("gone", "onnxruntime", 2, 1, "skipped"),
        ("sparse", "torch", 2, 1, "skipped"),
        ("gone", "torch", 2, 1, "skipped"),
    ]
    product = found[0]["nodes"][-1]
    assert (product["macs"], product["nonzero_macs"]) == (12, 8)
    assert product["share_of_peak"] == product["gflops"] / 100.0
    assert "none.onnx" in found[1]["reason"]


def test_a_torch_model_is_watched_by_modules() -> None:
    model = {"name": "resnet20", "num_classes": 4, "seed": 0}
    variants = [Variant("dense", None, model, None, (3, 16, 16))]
    settings = Settings(("torch", "onnxruntime"), ("cpu",), (1,), (1,), min_time_s=0.01)

    found = measure_layers(variants, settings)

    assert [row["status"] for row in found] == ["measured", "skipped"]
    nodes = {row["module"]: row for row in found[0]["nodes"]}
    assert nodes["layer1.0.conv1"]["macs"] == 16 * 16 * 16 * 16 * 9
    assert nodes["layer1.0.conv1"]["share_of_peak"] is None
    assert (nodes["layer1.0.bn1"]["op"], nodes["layer1.0.bn1"]["macs"]) == ("BatchNorm2d", 0)
    assert found[1]["reason"] == "there is no ONNX graph; run `ntksap export` first"


@pytest.mark.parametrize(
    ("backend", "device", "reason"),
    [
        ("torch-compile", "cpu", "a compiled model has no modules to time; take torch or onnxruntime"),
        ("onnxruntime", "cuda", "nodes are timed on the cpu only"),
    ],
)
def test_what_is_not_watched_says_why(
    backend: str, device: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(backends, "unavailable", lambda *_: None)
    monkeypatch.setattr(layers, "ask", lambda *_: pytest.fail("a process was started"))
    model = {"name": "resnet20", "num_classes": 4, "seed": 0}
    variants = [Variant("dense", write_graph(tmp_path / "a.onnx"), model, None, (3, 16, 16))]

    (found,) = measure_layers(variants, Settings((backend,), (device,), (1,), (1,)))

    assert reason in found["reason"]
    assert found["nodes"] == []


def test_only_what_can_be_watched_has_its_peak_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[object] = []
    monkeypatch.setattr(layers, "measure_machine", lambda *given: asked.append(given) or {"method": "none"})
    monkeypatch.setattr(layers, "ask", lambda *_: (_ for _ in ()).throw(UnavailableError("not now")))
    variants = [
        Variant("dense", write_graph(tmp_path / "a.onnx"), None, None, (3, 4, 4)),
        Variant("dense", write_graph(tmp_path / "b.onnx"), None, None, (3, 4, 4), precision="int8"),
    ]

    found = layers.per_layer(variants, Settings(("onnxruntime", "torch"), ("cpu",), (1, 2), (2,)))

    assert asked == [([2] * 4, ["fp32", "int8"] * 2)]
    assert found["machine"] == {"method": "none"}
    assert [row["reason"] for row in found["layers"]].count("not now") == 4
