from __future__ import annotations

import numpy as np
import onnx
import pytest

from ntksap_export.graph import Graph
from ntksap_export.graph.marks import marked
from ntksap_export.graph.naming import module_of
from ntksap_export.graph.product import Kind, matrix_product
from ntksap_export.runtime.ort import OrtSession

BRANCHED = """
    <ir_version: 10, opset_import: ["" : 20]>
    g (float[n, 3] images) => (float[n, 3] logits) {
        active = Relu(images)
        sum = ReduceSum<keepdims = 0>(active)
        zero = Constant<value_float = 0.0>()
        large = Greater(sum, zero)
        logits = If(large) <
            then_branch = yes () => (float[n, 3] a) { a = Add(active, active) },
            else_branch = no () => (float[n, 3] b) { b = Neg(active) }
        >
    }
"""


def branched() -> Graph:
    return Graph(onnx.parser.parse_model(BRANCHED), ())


def test_each_name_carries_the_number_of_its_node() -> None:
    marks = marked(branched())

    nodes = marks.graph.proto.graph.node
    assert [node.name for node in nodes] == ["Relu~0~", "ReduceSum~1~", "Constant~2~", "Greater~3~", "If~4~"]
    assert [list(node.output) for node in nodes] == [["v~0~0"], ["v~1~0"], ["v~2~0"], ["v~3~0"], ["logits"]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("v~0~0_nchwc", (0,)),
        ("Relu~3~/WithoutBiases,Add~1~", (1, 3)),
        ("fused Conv~10~_Relu~2~", (2, 10)),
        ("logits", (4,)),
        ("logits_nchwc", (4,)),
        ("logits2", ()),
        ("ReorderOutput", ()),
    ],
)
def test_a_runtimes_name_leads_back(name: str, expected: tuple[int, ...]) -> None:
    assert expected == marked(branched()).origins(name)


def test_a_marked_graph_answers_the_same_also_in_its_branches() -> None:
    graph = branched()
    images = np.asarray([[1, -2, 3]], np.float32)

    with OrtSession(graph.to_bytes()) as plain, OrtSession(marked(graph).graph.to_bytes()) as other:
        expected, actual = plain.run(images), other.run(images)

    np.testing.assert_array_equal(expected, actual)


@pytest.mark.parametrize(
    ("initializer", "expected"),
    [
        ("layer1.0.conv1.weight", "layer1.0.conv1"),
        ("fc.weight.T", "fc"),
        ("fc.weight.T_quantized", "fc"),
        ("conv.weight_quantized", "conv"),
        ("conv.weight_scale", None),
        ("bn.bias", None),
        ("weight", None),
    ],
)
def test_a_weight_names_its_module(initializer: str, expected: str | None) -> None:
    assert expected == module_of(initializer)


@pytest.mark.parametrize(("kind", "given", "expected"), [("fp32", 0.5, 0.5 * 0.5 * 8), ("int8", 3, 9 * 8)])
def test_a_matrix_product_multiplies(kind: Kind, given: float, expected: float) -> None:
    images = np.full((8, 8), given, np.float32 if kind == "fp32" else np.uint8)

    with OrtSession(matrix_product(8, kind)) as session:
        actual = session.run(images)

    assert np.full((8, 8), expected, np.float32).tolist() == actual.tolist()
