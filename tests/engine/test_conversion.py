"""Whole graphs: what is in the engine's node, what stays, and that the two together compute the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from ntksap_export.engine import ENGINE_DOMAIN, convert, plans
from ntksap_export.errors import ExportError
from ntksap_export.graph import Graph
from ntksap_export.graph.tensors import to_sparse
from tests.engine.engine_cases import FLOAT, agreed, drawn, graph_of, images, node, run_converted

STORED = {
    "w": drawn(4, 3, 3, 3, density=0.3), "v": drawn(4, 4, 3, 3, seed=2, density=0.3),
    "scales": np.float32([1, 1, 2, 2]),
}  # fmt: skip


def stored_of(*nodes: Any) -> dict[str, Any]:
    return {name: value for name, value in STORED.items() if any(name in item.input for item in nodes)}


CONV = node("Conv", "x w", "c", pads=[1, 1, 1, 1])
OTHER = node("Resize", "c _ scales", "r", mode="nearest")
LAST = node("Conv", "r v", "y")


def in_two() -> Graph:
    """A Resize between two convolutions."""
    return graph_of([CONV, OTHER, LAST], stored_of(CONV, OTHER, LAST))


def test_what_is_not_covered_stays_between() -> None:
    converted = agreed(in_two(), images(2, 3, 8, 8))

    assert (2, ("the_c", "the_y")) == (converted.regions, converted.covered)
    assert ("node the_r (Resize): operator not covered",) == tuple(map(str, converted.left))
    assert ["SparseBody", "Resize", "SparseBody"] == [item.op_type for item in converted.graph.proto.graph.node]
    assert ("engine: 2 of 3 nodes in 2 calls", "  left: node the_r (Resize): operator not covered") == converted.lines()


def test_the_weights_are_in_the_plan_alone() -> None:
    converted = convert(in_two())
    proto = converted.graph.proto
    names = {item.name for item in proto.graph.initializer}

    assert {"scales", "sparse_body_0.plan", "sparse_body_1.plan"} == names
    assert ("scales",) == converted.graph.parameters
    assert {"c", "y"} == set(plans(converted.graph))


def test_names_shapes_and_the_rest_of_the_file_stay() -> None:
    graph = in_two()
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    proto.producer_name, proto.doc_string = "someone", "something"
    proto.metadata_props.append(onnx.StringStringEntryProto(key="classes", value='["a"]'))
    changed = convert(Graph(proto, ())).graph.proto

    assert (proto.graph.input, proto.graph.output) == (changed.graph.input, changed.graph.output)
    assert (proto.metadata_props, "someone", "something") == (
        changed.metadata_props, changed.producer_name, changed.doc_string,
    )  # fmt: skip
    assert {"": 20, ENGINE_DOMAIN: 1} == {item.domain: item.version for item in changed.opset_import}
    (note,) = [value for value in changed.graph.value_info if value.name == "c"]
    axes = note.type.tensor_type.shape.dim
    assert ["batch", 4, 8, 8] == [axis.dim_param or axis.dim_value for axis in axes]


def test_the_graph_is_left_as_it_was() -> None:
    graph = in_two()
    before = graph.to_bytes()
    convert(graph)

    assert before == graph.to_bytes()


def test_equal_graphs_give_equal_bytes() -> None:
    assert convert(in_two()).graph.to_bytes() == convert(in_two()).graph.to_bytes()


def test_a_name_that_is_taken_is_left_alone() -> None:
    nodes = [node("Conv", "x w", "c"), node("Softmax", "c", "sparse_body_0"), node("Identity", "sparse_body_0", "y")]
    converted = agreed(graph_of(nodes, stored_of(*nodes)), images(1, 3, 8, 8))

    assert "sparse_body_0_1" == converted.graph.proto.graph.node[0].name


def test_a_sparse_initializer_is_a_weight_like_any() -> None:
    graph = graph_of([node("Conv", "x w", "y")], stored_of(CONV))
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    import torch

    proto.graph.sparse_initializer.append(to_sparse("w", torch.from_numpy(STORED["w"])))
    proto.graph.ClearField("initializer")
    x = images(2, 3, 8, 8)

    np.testing.assert_array_equal(run_converted(convert(graph), x)[0], run_converted(convert(Graph(proto, ())), x)[0])


CONSTANTS: dict[str, list[Any]] = {
    "Identity": [node("Identity", "w", "k")],
    "Constant": [node("Constant", "", "k", value=numpy_helper.from_array(STORED["w"]))],
    "Cast": [node("Cast", "half", "k", to=FLOAT)],
    "Transpose": [node("Transpose", "turned", "k", perm=[3, 2, 0, 1])],
    "product": [node("Constant", "", "two", value_float=2.0), node("Mul", "w two", "k")],
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_weights_that_are_computed_from_constants(name: str) -> None:
    nodes = [*CONSTANTS[name], node("Conv", "x k", "y")]
    turned = np.ascontiguousarray(STORED["w"].transpose(2, 3, 1, 0))
    stored = {"w": STORED["w"], "half": STORED["w"].astype(np.float16), "turned": turned}
    read = {item for each in nodes for item in each.input}
    converted = agreed(
        graph_of(nodes, {key: value for key, value in stored.items() if key in read}), images(2, 3, 8, 8)
    )

    assert (("the_y",), ()) == (converted.covered, converted.left)
    assert ["SparseBody"] == [item.op_type for item in converted.graph.proto.graph.node]


def typed(kind: int, shape: list[Any], weight: Any, op: str = "Conv") -> Graph:
    proto = helper.make_model(
        helper.make_graph(
            [helper.make_node(op, ["x", "w"], ["y"], name="the_y")],
            "typed",
            [helper.make_tensor_value_info("x", kind, shape)],
            [helper.make_tensor_value_info("y", kind, [None] * len(shape))],
            [numpy_helper.from_array(weight, "w")],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    return Graph(proto, ())


def computed() -> Graph:
    """A weight that depends on the image."""
    nodes = [node("ReduceMean", "x", "m", keepdims=1), node("Mul", "m w", "k"), node("Conv", "x k", "y")]
    return graph_of(nodes, stored_of(CONV), (1, 3, 8, 8))


def overridable() -> Graph:
    graph = graph_of([node("Conv", "x w", "y")], stored_of(CONV))
    graph.proto.graph.input.append(helper.make_tensor_value_info("w", FLOAT, STORED["w"].shape))
    return graph


REFUSED = {
    "'x' leaves other axes than the batch open: (batch, 3, h, 8)": lambda: typed(
        FLOAT, ["batch", 3, "h", 8], STORED["w"]
    ),
    "'x' is float16, not float32": lambda: typed(
        onnx.TensorProto.FLOAT16, ["n", 3, 8, 8], STORED["w"].astype(np.float16)
    ),
    "only two-dimensional convolutions are covered; its weight has 5 axes": lambda: typed(
        FLOAT, ["n", 3, 8, 8, 8], drawn(2, 3, 3, 3, 3)
    ),
    "its kernel is 65 x 1, the engine's limit 64": lambda: typed(FLOAT, ["n", 1, 70, 8], drawn(2, 1, 65, 1)),
    "node the_y (ConvTranspose): operator not covered": lambda: typed(
        FLOAT, ["n", 4, 8, 8], STORED["w"], "ConvTranspose"
    ),
    "'k' is not constant": computed,
    "'w' is also an input, which a caller may set": overridable,
    "no convolution or product beside it that the engine runs": lambda: graph_of([node("Relu", "x", "y")], {}),
    "its second factor has 3 axes, not 2": lambda: typed(FLOAT, ["n", 4, 8], drawn(2, 8, 5), "MatMul"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_graph_with_nothing_to_cover(reason: str) -> None:
    with pytest.raises(ExportError) as error:
        convert(REFUSED[reason]())

    assert reason in str(error.value)
    assert "\n" not in str(error.value)


LEFT: dict[str, tuple[Any, str]] = {
    "a batch of 1": (node("Add", "c one", "y"), "not one number, nor one for each channel"),
    "another shape": (node("Add", "c p", "y"), "its operands have the shapes (4, 8, 8) and (4, 1, 1)"),
    "a difference": (node("Sub", "c c", "y"), "neither of its operands is constant"),
    "training": (node("BatchNormalization", "c g g g g", "y a b", training_mode=1), "it is in training form"),
    "a batch in the row": (node("Flatten", "c", "y", axis=0), "it flattens the batch, too"),
    "one row": (node("Reshape", "c whole", "y"), "not one row for each image"),
    "indices": (node("MaxPool", "c", "y i", kernel_shape=[2, 2]), "more than its first output is used"),
    "reflected": (node("Pad", "c pads", "y", mode="reflect"), "it pads with something else than zeros"),
    "cut": (node("Pad", "c cut", "y"), "not around the plane alone"),
    "another axis": (node("Concat", "c c", "y", axis=2), "it joins another axis than the channels"),
    "another mean": (node("ReduceMean", "c wide", "y"), "it reduces the axes [3]"),
    "dilated": (
        node("MaxPool", "c", "y", kernel_shape=[2, 2], dilations=[2, 2], auto_pad="SAME_UPPER"),
        "runtimes disagree on what SAME_UPPER means under dilations",
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_why_a_node_stays(name: str) -> None:
    last, reason = LEFT[name]
    nodes = [CONV, node("GlobalAveragePool", "c", "p"), last]
    stored = {
        "one": drawn(1, 4, 8, 8), "whole": np.array([1, -1]), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "cut": np.array([0, 0, -1, 0, 0, 0, 0, 0]), "g": np.abs(drawn(4)), "wide": np.array([3]),
    }  # fmt: skip
    used = {key: value for key, value in stored.items() if key in last.input} | {"w": STORED["w"]}
    outputs = " ".join(["p", *(item for item in last.output if item not in ("a", "b"))])
    graph = graph_of(nodes, used, outputs=outputs.replace(" i", "") if name != "indices" else "p y")
    if name == "indices":
        graph.proto.graph.output.append(helper.make_tensor_value_info("i", onnx.TensorProto.INT64, [None] * 4))
    (left,) = convert(graph).left

    assert reason in left.reason


PIECES = ("Conv", "Conv", "Relu", "Add", "Mul", "Concat", "Softplus", "Sigmoid", "MaxPool", "BatchNormalization")


@st.composite
def bodies(draw: st.DrawFn) -> Graph:
    """Planes of 4 channels and 6 x 6, read by anybody later; a Softplus is not covered."""
    values, nodes, stored = ["x"], [], {"g": np.abs(drawn(4)) + 0.5, "s": drawn(4, seed=3)}
    for at in range(draw(st.integers(1, 9))):
        op = draw(st.sampled_from(PIECES))
        first, second, made = draw(st.sampled_from(values)), draw(st.sampled_from(values)), f"v{at}"
        if op == "Conv":
            stored[f"w{at}"] = drawn(4, 4, 3, 3, seed=at, density=draw(st.sampled_from([0.0, 0.2, 1.0])))
            nodes.append(node("Conv", f"{first} w{at}", made, pads=[1, 1, 1, 1]))
        elif op == "Concat":
            stored[f"w{at}"] = drawn(4, 8, 1, 1, seed=at)
            nodes += [node("Concat", f"{first} {second}", f"j{at}", axis=1), node("Conv", f"j{at} w{at}", made)]
        elif op == "MaxPool":
            nodes.append(node(op, first, made, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
        elif op == "BatchNormalization":
            nodes.append(node(op, f"{first} g s s g", made))
        else:
            nodes.append(node(op, f"{first} {second}" if op in ("Add", "Mul") else first, made))
        values.append(made)
    outputs = draw(st.lists(st.sampled_from(values[1:]), min_size=1, max_size=3, unique=True))
    stored["last"] = drawn(2, 4, 1, 1)
    nodes.append(node("Conv", f"{values[-1]} last", "y"))
    read = {item for each in nodes for item in each.input}
    used = {name: value for name, value in stored.items() if name in read}
    return graph_of(nodes, used, ("batch", 4, 6, 6), " ".join([*outputs, "y"]))


@settings(max_examples=150, deadline=None)
@given(graph=bodies())
def test_any_body_computes_the_same(graph: Graph) -> None:
    agreed(graph, images(2, 4, 6, 6))
