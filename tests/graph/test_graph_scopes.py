from __future__ import annotations

import onnx
import pytest
from onnx import helper

from ntksap_export.graph import Graph
from ntksap_export.graph.costs import node_costs
from ntksap_export.graph.scopes import module_scopes

KEY = "pkg.torch.onnx.name_scopes"


def chain(*names: str, **notes: str) -> onnx.ModelProto:
    """ReLUs, one after the other; `notes` are the scopes of the nodes `n0`, `n1`, ..."""
    nodes = []
    for at, name in enumerate(names):
        node = helper.make_node("Relu", ["images" if at == 0 else f"v{at - 1}"], [f"v{at}"], name=name)
        if text := notes.get(f"n{at}"):
            node.metadata_props.add(key=KEY, value=text)
        nodes.append(node)
    value = [helper.make_tensor_value_info(name, 1, ["n", 3]) for name in ("images", f"v{len(names) - 1}")]
    graph = helper.make_graph(nodes, "chain", value[:1], value[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/layer1/layer1.0/conv1/Conv", "layer1.0.conv1"),
        ("/features/features.0/features.0.0/Conv", "features.0.0"),
        ("/layer1/layer1.0/Add", "layer1.0"),
        ("/Flatten", None),
        ("Conv_12", None),
        ("", None),
    ],
)
def test_a_name_of_the_old_exporter_is_a_path(name: str, expected: str | None) -> None:
    assert module_scopes(chain(name)) == [expected]


def test_the_second_call_of_a_module_is_that_module() -> None:
    names = ("/block/relu/Relu", "/block/relu_1/Relu", "/block/act_1/Relu")

    assert module_scopes(chain(*names)) == ["block.relu", "block.relu", "block.act_1"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("['', 'layer1', 'layer1.0', 'layer1.0.relu', 'relu_3']", "layer1.0.relu"),
        ("['', 'relu']", None),
        ("[]", None),
        ("not a list", None),
        ("[1, 2, 3]", None),
        ("7", None),
    ],
)
def test_notes_of_the_new_exporter(text: str, expected: str | None) -> None:
    assert module_scopes(chain("node_relu", n0=text)) == [expected]


def test_a_foreign_weight_without_a_name_is_its_scope() -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 20]>
        g (float[n, 3, h, w] images) => (float[n, 2, h, w] y) <float[2, 3, 1, 1] onnx_Conv_1 = {1, 0, 2, 3, 4, 5}>
        { y = Conv(images, onnx_Conv_1) }"""
    )
    proto.graph.node[0].name = "/stem/stem.0/Conv"

    (cost,) = node_costs(Graph(proto, ()), (1, 3, 2, 2))

    assert (cost.module, cost.macs, cost.nonzero_macs) == ("stem.0", 24, 20)
