"""Layers of a graph by name, and the clean copy of a converted one."""

from __future__ import annotations

import onnx
import pytest

from ntksap_export.errors import ConfigError, ExportError
from ntksap_export.graph import Graph, optimize
from ntksap_export.graph.precision import Layer, choose_layers, layers, named, tidy

from .graph_cases import BRANCHES, parse

FOUND = (
    Layer("conv1", "a", "conv1.weight"),
    Layer("layer1.0.conv1", "b", "layer1.0.conv1.weight"),
    Layer("layer1.1.conv1", "c", "layer1.1.conv1.weight"),
    Layer("layer10", "d", "layer10.weight"),
)


def test_layers_are_nodes_with_a_constant_weight() -> None:
    graph = named(Graph(parse(), ()))

    (node,) = (node for node in graph.proto.graph.node if node.op_type == "MatMul")
    assert (Layer("w", node.name, "w"),) == layers(graph)


def test_every_node_gets_a_name_of_its_own() -> None:
    proto = parse()
    proto.graph.node[1].name = proto.graph.node[3].name = "MatMul_2"

    names = [node.name for node in named(Graph(proto, ())).proto.graph.node]

    assert ["GlobalAveragePool_0", "MatMul_2", "MatMul_2_", "Add_3"] == names


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["conv1"], ["conv1"]),
        (["conv1.weight", "layer1.1.conv1"], ["conv1", "layer1.1.conv1"]),
        (["layer1"], ["layer1.0.conv1", "layer1.1.conv1"]),
        ([], []),
    ],
)
def test_layers_are_chosen_by_name_or_by_what_holds_them(asked: list[str], expected: list[str]) -> None:
    assert expected == [layer.name for layer in choose_layers(FOUND, asked)]


def test_a_name_that_is_no_layer_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^the graph has no layer 'layer1\.0\.conv2'; did you mean layer1\.0\.conv1"):
        choose_layers(FOUND, ["layer1.0.conv2"])


def test_a_clean_copy_has_its_nodes_in_order_and_no_notes() -> None:
    source = Graph(parse(), ("w", "b"))
    converted = parse()
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in converted.graph.node]
    del converted.graph.node[:]
    converted.graph.node.extend(reversed(nodes))
    converted.opset_import.add(domain="com.example", version=1)
    converted.metadata_props.add(key="where", value="here")
    converted.producer_name = "converter"

    expected, _ = optimize(source, ("strip_metadata",))
    assert expected.to_bytes() == tidy(Graph(converted, ("w", "b")), source).to_bytes()


def test_what_a_branch_reads_is_made_before_it() -> None:
    source = Graph(parse(BRANCHES), ())
    converted = parse(BRANCHES)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in converted.graph.node]
    del converted.graph.node[:]
    converted.graph.node.extend(reversed(nodes))

    expected, _ = optimize(source, ("strip_metadata",))
    assert expected.to_bytes() == tidy(Graph(converted, ()), source).to_bytes()


def test_a_broken_graph_is_one_line() -> None:
    proto = parse()
    proto.graph.node[0].input[0] = "nowhere"

    with pytest.raises(ExportError, match=r"^the converted graph is not valid: [^\n]*$"):
        tidy(Graph(proto, ()), Graph(parse(), ()))
