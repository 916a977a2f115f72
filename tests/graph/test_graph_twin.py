from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from ntksap_export.graph import Graph, dense_twin, weight_sparsity
from ntksap_export.graph.precision import precision_of

from .conftest import Case
from .graph_cases import TINY, initializer, parse


def test_twin_has_the_same_nodes_and_no_zero(case: Case, optimized: Graph) -> None:
    before = optimized.to_bytes()

    twin = dense_twin(optimized)

    assert before == optimized.to_bytes()
    assert optimized.parameters == twin.parameters
    assert list(optimized.proto.graph.node) == list(twin.proto.graph.node)
    assert _layout(optimized) == _layout(twin)
    assert all(np.count_nonzero(values) == values.size for _, values in twin.weights())
    assert 0.0 == weight_sparsity(twin)
    onnx.checker.check_model(twin.proto)


def test_twin_runs_and_answers_finite_numbers(optimized: Graph) -> None:
    session = onnxruntime.InferenceSession(dense_twin(optimized).to_bytes(), providers=["CPUExecutionProvider"])

    (logits,) = session.run(None, {"images": np.ones((2, 3, 32, 32), np.float32)})

    assert (2, 7) == np.shape(logits)
    assert np.isfinite(logits).all()


def test_twin_is_reproducible_and_follows_its_seed(optimized: Graph) -> None:
    first = dense_twin(optimized, seed=4).to_bytes()

    assert first == dense_twin(optimized, seed=4).to_bytes()
    assert first != dense_twin(optimized, seed=5).to_bytes()


def test_twin_weights_have_the_spread_of_kaiming(optimized: Graph) -> None:
    weight = dict(dense_twin(optimized).weights())["layer3.2.conv2.weight"]

    assert (2 / (64 * 9)) ** 0.5 == pytest.approx(weight.std(), rel=0.05)
    assert 0 == pytest.approx(weight.mean(), abs=0.002)


def test_twin_changes_no_bias_and_no_integer() -> None:
    proto = parse(TINY.replace("float[2] b = {0, 1}", "float[2] b = {0, 1}, int64[1, 2] shape = {0, 5}"))

    twin = dense_twin(Graph(proto, ()))

    assert [0, 1] == initializer(twin.proto, "b").tolist()
    assert [[0, 5]] == initializer(twin.proto, "shape").tolist()
    assert 0 == (initializer(twin.proto, "w") == 0).sum()


def test_weight_sparsity_counts_zeros_of_both_signs_in_weights_only() -> None:
    weight = np.array([[1, 0], [-0.0, 2], [0, 1e-40]], np.float32)

    assert 0.5 == weight_sparsity(Graph(parse(w=weight, b=np.zeros(2, np.float32)), ()))


def test_weight_sparsity_is_that_of_the_mask(case: Case) -> None:
    assert case.mask.sparsity == pytest.approx(weight_sparsity(case.graph), abs=1e-12)


def test_weight_sparsity_without_weights_is_zero() -> None:
    proto = parse()
    del proto.graph.initializer[:]

    assert 0.0 == weight_sparsity(Graph(proto, ()))


def _layout(graph: Graph) -> list[tuple[str, int, tuple[int, ...]]]:
    return [(item.name, item.data_type, tuple(item.dims)) for item in graph.proto.graph.initializer]


def test_twin_of_other_types_has_no_zero_either() -> None:
    half, codes = np.zeros((3, 2), np.float16), np.array([[0, 5], [-3, 0]], np.int8)
    proto = parse(w=half)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(codes, "w_quantized"))

    twin = dense_twin(Graph(proto, ()))

    drawn, left = initializer(twin.proto, "w"), initializer(twin.proto, "w_quantized")
    assert (np.float16, np.int8) == (drawn.dtype, left.dtype)
    assert drawn.all()
    assert left.all()
    assert [5, -3] == [left[0, 1], left[1, 0]]


@pytest.mark.parametrize(
    ("node", "dtype", "expected"),
    [
        ("Relu", np.float32, "fp32"),
        ("Relu", np.float16, "fp16"),
        ("DequantizeLinear", np.int8, "int8"),
        ("ConvInteger", np.int8, "int8"),
    ],
)
def test_the_precision_of_a_graph(node: str, dtype: type, expected: str) -> None:
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(node, ["w"], ["y"])],
        "tiny", [], [], [onnx.numpy_helper.from_array(np.ones((2, 2), dtype), "w")],
    )  # fmt: skip

    assert expected == precision_of(Graph(onnx.helper.make_model(graph), ()))
