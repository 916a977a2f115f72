"""int8: zeros, scales, what stays float32, bytes, and what cannot be quantized."""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from ntksap_export.errors import ExportError
from ntksap_export.graph import Graph
from ntksap_export.graph.precision import check_int8, float_operators, layers, named
from ntksap_export.runtime import quantize as quantizing
from ntksap_export.runtime.accuracy import answers, sqnr_db
from ntksap_export.runtime.ort import OrtSession
from ntksap_export.runtime.quantize import METHODS, calibrate, largest, needs_reduced, quantize
from ntksap_export.runtime.sensitivity import fewest, rank_layers

from .precision_cases import batches, initializers, small_graph


@pytest.fixture(scope="module")
def graph() -> Graph:
    return named(small_graph())


@pytest.fixture(scope="module")
def ranges(graph: Graph) -> Any:
    return calibrate(graph, batches(), "percentile")


def logits(graph: Graph) -> np.ndarray:
    with OrtSession(graph.to_bytes(), threads=1) as session:
        return answers(session, batches(1))


def test_weights_are_int8_per_channel_with_the_zeros_where_they_were(graph: Graph, ranges: Any) -> None:
    found = initializers(quantize(graph, ranges))
    inputs = {"conv1": "images", "conv2": "active", "fc": "pooled"}
    step = {f"{layer}.weight": float(found[f"{name}_scale"]) for layer, name in inputs.items()}

    for name, weight in initializers(graph).items():
        if name.endswith(".weight"):
            largest_of_channel = np.abs(weight).reshape(len(weight), -1).max(1).astype(np.float64)
            said = np.abs(initializers(graph)[name.replace("weight", "bias")]) / 2.0**20 / step[name]
            scale = np.where(largest_of_channel == 0, said, largest_of_channel / 127)
            expected = np.round(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
            assert not found[f"{name}_zero_point"].any()
            assert np.int8 == found[f"{name}_quantized"].dtype
            np.testing.assert_allclose(found[f"{name}_scale"], scale, rtol=1e-6)
            assert np.abs(found[f"{name}_quantized"] - expected).max() <= 1  # a tie may fall either way
            assert not found[f"{name}_quantized"][weight == 0].any()


def test_activations_are_unsigned(graph: Graph, ranges: Any) -> None:
    int8 = quantize(graph, ranges)
    values = initializers(int8)
    points = {
        node.input[0]: values[node.input[2]] for node in int8.proto.graph.node if node.op_type == "QuantizeLinear"
    }

    assert {np.dtype(np.uint8)} == {point.dtype for point in points.values()}
    assert 0 == points["active"]  # behind the ReLU no code is spent on negative numbers


FEW = [0.003, -0.002, 0.0, 0.004, 0.02]
SILENT: dict[str, dict[str, Any]] = {
    "a classifier without weights": {"fc.weight": 0, "fc.bias": FEW},
    "activations that are always 0": {
        "conv1.weight": 0, "conv1.bias": -1, "conv2.weight": 0, "conv2.bias": -5, "fc.bias": FEW,
    },
    "channels without weights": {"conv1.weight": 0, "conv1.bias": 1e-4, "conv2.weight": 0, "conv2.bias": 1e-4},
}  # fmt: skip


@pytest.mark.parametrize("level", ["off", "all"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("changes", SILENT.values(), ids=SILENT)
def test_a_collapsed_network_says_in_int8_what_its_biases_say(changes: dict[str, Any], method: str, level: str) -> None:
    proto = named(small_graph()).proto
    for item in proto.graph.initializer:
        if item.name in changes:
            value = np.broadcast_to(np.asarray(changes[item.name], np.float32), tuple(item.dims))
            item.CopyFrom(onnx.numpy_helper.from_array(value.copy(), item.name))
    graph = Graph(proto, ())

    int8 = quantize(graph, calibrate(graph, batches(), method))

    check_int8(int8, graph)
    with OrtSession(int8.to_bytes(), threads=1, optimization=level) as session:
        apart = np.abs(answers(session, batches(1)) - logits(graph)).max()
    assert apart <= 0.01 * np.abs(logits(graph)).max()


def test_logits_stay_close(graph: Graph, ranges: Any) -> None:
    assert sqnr_db(logits(graph), logits(quantize(graph, ranges))) > 25


@pytest.mark.parametrize("method", METHODS)
def test_each_method_covers_the_activations(graph: Graph, method: str) -> None:
    with OrtSession(graph.to_bytes()) as session:
        reached = max(float(np.abs(session.run(images)).max()) for images in batches())

    found = largest(calibrate(graph, batches(), method))["logits"]

    assert found <= reached * 1.001
    assert found >= reached * (0.3 if method == "entropy" else 0.99)


def test_equal_input_gives_equal_bytes(graph: Graph, ranges: Any) -> None:
    again = calibrate(named(small_graph()), batches(), "percentile")

    assert quantize(graph, ranges).to_bytes() == quantize(graph, again).to_bytes()


def test_nothing_is_left_behind(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before, proto = list(sys.path), graph.to_bytes()

    content = quantize(graph, calibrate(graph, batches(), "minmax")).to_bytes()

    assert [] == list(tmp_path.iterdir())
    assert str(tmp_path).encode() not in content
    assert before == sys.path
    assert proto == graph.to_bytes()
    assert "" == capsys.readouterr().out
    assert logging.WARNING == logging.getLogger().level


def test_the_graph_is_a_plain_one_any_runtime_loads(graph: Graph, ranges: Any) -> None:
    proto = quantize(graph, ranges).proto

    onnx.checker.check_model(proto, full_check=True)
    assert {"": 20} == {item.domain: item.version for item in proto.opset_import}
    assert [] == list(proto.metadata_props)


def test_layers_that_are_kept_stay_as_they_were(graph: Graph, ranges: Any) -> None:
    (conv2,) = (layer for layer in layers(graph) if layer.name == "conv2")

    int8 = quantize(graph, ranges, keep=[conv2.node])

    np.testing.assert_array_equal(initializers(graph)["conv2.weight"], initializers(int8)["conv2.weight"])
    assert ("conv1", "fc") == check_int8(int8, graph)
    assert 1 == float_operators(int8)["Conv"]


def test_operators_without_int8_are_told(graph: Graph, ranges: Any) -> None:
    assert {"HardSwish": 1} == float_operators(quantize(graph, ranges))


def test_reduced_weights_have_seven_bits(graph: Graph, ranges: Any) -> None:
    found = initializers(quantize(graph, ranges, reduced=True))

    assert max(np.abs(value).max() for name, value in found.items() if name.endswith("weight_quantized")) <= 64


@pytest.mark.parametrize(
    ("flags", "machine", "reduced"),
    [
        ({"avx2", "avx512f"}, "x86_64", True),
        ({"avx2", "avx_vnni"}, "x86_64", False),
        ({"avx512f", "avx512_vnni"}, "x86_64", False),
        ({"asimd"}, "aarch64", False),
    ],
)
def test_weights_are_reduced_where_products_saturate(flags: set[str], machine: str, reduced: bool) -> None:
    assert reduced == needs_reduced(flags, machine)


def test_a_zero_that_is_lost_is_found(graph: Graph, ranges: Any) -> None:
    int8 = quantize(graph, ranges)
    for item in int8.proto.graph.initializer:
        if item.name == "conv2.weight_quantized":
            values = onnx.numpy_helper.to_array(item).copy()
            values[2, 0, 0, 0] = 1
            item.CopyFrom(onnx.numpy_helper.from_array(values, item.name))

    with pytest.raises(ExportError, match=r"pruned weights of 'conv2\.weight' are not zero in the int8 graph"):
        check_int8(int8, graph)


def test_a_graph_without_layers_is_refused() -> None:
    text = """
        <ir_version: 10, opset_import: ["" : 20]>
        plain (float[batch, 3, 8, 8] images) => (float[batch, 3, 8, 8] logits) { logits = Relu(images) }
    """
    graph = named(Graph(onnx.parser.parse_model(text), ()))

    with pytest.raises(ExportError, match="no Conv, Gemm or MatMul with a constant weight: leave --int8 away"):
        quantize(graph, calibrate(graph, batches(), "minmax"))


def test_an_operator_that_cannot_be_quantized_is_named(
    graph: Graph, ranges: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = quantizing._quantized

    def broken(graph: Graph, ranges: Any, keep: set[str], reduced: bool) -> Graph:
        if not any(layer.name == "conv2" and layer.node in keep for layer in layers(graph)):
            raise ValueError("no kernel\nand a long story")
        return real(graph, ranges, keep, reduced)

    monkeypatch.setattr(quantizing, "_quantized", broken)

    with pytest.raises(ExportError, match=r"Conv 'conv2' cannot be quantized \(no kernel\); add --int8-keep conv2"):
        quantize(graph, ranges)


def test_images_of_another_size_are_one_line(graph: Graph) -> None:
    with pytest.raises(ExportError, match=r"calibration failed: [^\n]*$"):
        calibrate(graph, [np.zeros((2, 3, 4, 4), np.float32)], "minmax")


def test_layers_are_ranked_by_what_each_alone_costs(graph: Graph, ranges: Any) -> None:
    told: list[int] = []

    ranked = rank_layers(graph, ranges, batches(1), threads=1, advance=told.append)

    found = {}
    nodes = {node.name for node in graph.proto.graph.node}
    for layer in layers(graph):
        alone = logits(quantize(graph, ranges, keep=nodes - {layer.node}))
        signal, noise = logits(graph).astype(np.float64), (logits(graph) - alone).astype(np.float64)
        found[layer.name] = 10 * np.log10((signal**2).sum() / (noise**2).sum())
    assert sorted(found, key=lambda name: found[name]) == [layer.name for layer, _ in ranked]
    assert [pytest.approx(value) for value in sorted(found.values())] == [value for _, value in ranked]
    assert [1, 1, 1] == told


@pytest.mark.parametrize("most", [1, 2, 5, 8, 13])
def test_the_fewest_that_hold_are_found(most: int) -> None:
    for needed in range(1, most + 2):
        tried: list[int] = []

        def holds(count: int, needed: int = needed, tried: list[int] = tried) -> bool:
            tried.append(count)
            return count >= needed

        assert (needed if needed <= most else None) == fewest(most, holds)
        assert max(tried) <= most
        assert len(tried) == len(set(tried))
