from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from ntksap_export import networks
from ntksap_export.errors import ConfigError
from ntksap_export.graph import Graph, export
from ntksap_export.graph.costs import NodeCost, node_costs
from ntksap_export.masks import layer_costs, mask_table
from tests.support.nets import random_mask

HEAD = '<ir_version: 10, opset_import: ["" : 20]>'


def made(text: str, **arrays: np.ndarray) -> Graph:
    """`conv1__weight` in the text and among the arrays stands for `conv1.weight`: the text takes no dots."""
    proto = onnx.parser.parse_model(f"{HEAD} {text}")
    for node in proto.graph.node:
        node.input[:] = [name.replace("__", ".") for name in node.input]
    for name, values in arrays.items():
        proto.graph.initializer.append(numpy_helper.from_array(values, name.replace("__", ".")))
    return Graph(proto, ())


def kept(*shape: int, every: int = 3) -> np.ndarray:
    """Ones, but a zero at each third place."""
    values = np.ones(shape, np.float32)
    values.reshape(-1)[::every] = 0
    return values


def only(graph: Graph, *images: int, op_type: str) -> NodeCost:
    (found,) = [cost for cost in node_costs(graph, images) if cost.op_type == op_type]
    return found


CONV = "g (float[n, {channels}, h, w] images) => (float[n, o, a, b] y) {{ y = Conv<{attributes}>(images, c__weight) }}"


@pytest.mark.parametrize(
    ("attributes", "channels", "weight", "images", "macs"),
    [
        # out 4 x 4 x 8: 27 products each, two images
        ("strides = [2, 2], pads = [1, 1, 1, 1]", 3, (8, 3, 3, 3), (2, 3, 8, 8), 2 * 8 * 16 * 27),
        ("group = 6, pads = [1, 1, 1, 1]", 6, (6, 1, 3, 3), (1, 6, 5, 5), 6 * 25 * 9),  # depthwise
        ("group = 2", 4, (6, 2, 1, 1), (3, 4, 5, 7), 3 * 6 * 35 * 2),
        ("dilations = [2, 2]", 3, (4, 3, 3, 3), (1, 3, 9, 9), 4 * 25 * 27),
    ],
)
def test_a_convolution(
    attributes: str, channels: int, weight: tuple[int, ...], images: tuple[int, ...], macs: int
) -> None:
    graph = made(CONV.format(channels=channels, attributes=attributes), c__weight=np.ones(weight, np.float32))

    actual = only(graph, *images, op_type="Conv")

    assert (actual.module, actual.macs, actual.nonzero_macs) == ("c", macs, macs)
    assert actual.weight_bytes == 4 * np.prod(weight)


def test_nonzero_macs_are_those_of_a_plain_loop() -> None:
    weight = kept(6, 2, 3, 3)
    text = CONV.format(channels=4, attributes="group = 2, strides = [2, 1], pads = [1, 1, 1, 1]")

    actual = only(made(text, c__weight=weight), 2, 4, 6, 5, op_type="Conv")

    dense = nonzero = 0
    for _, _, _, place in itertools.product(range(2), range(3), range(5), np.ndindex(weight.shape)):
        dense += 1
        nonzero += bool(weight[place])
    assert (actual.macs, actual.nonzero_macs) == (dense, nonzero)


def test_a_transposed_convolution_uses_its_weight_once_per_input_position() -> None:
    text = "g (float[n, 4, h, w] images) => (float[n, o, a, b] y) { y = ConvTranspose<strides = [2, 2]>(images, w) }"

    actual = only(made(text, w=kept(4, 5, 2, 2)), 3, 4, 6, 7, op_type="ConvTranspose")

    uses = 3 * 6 * 7
    assert (actual.module, actual.macs) == (None, 4 * 5 * 4 * uses)
    assert actual.nonzero_macs == np.count_nonzero(kept(4, 5, 2, 2)) * uses


@pytest.mark.parametrize(("attributes", "shape"), [("transB = 1", (5, 12)), ("transB = 0", (12, 5))])
def test_a_gemm_counts_rows_times_weights(attributes: str, shape: tuple[int, ...]) -> None:
    text = f"""g (float[n, 3, 2, 2] images) => (float[n, 5] y) {{
        flat = Flatten(images)
        y = Gemm<{attributes}>(flat, fc__weight)
    }}"""

    actual = only(made(text, fc__weight=kept(*shape)), 7, 3, 2, 2, op_type="Gemm")

    assert (actual.module, actual.macs, actual.nonzero_macs) == ("fc", 7 * 60, 7 * 40)


def test_a_matmul_with_leading_axes_and_one_of_two_values() -> None:
    text = """g (float[n, 3, 4, 6] images) => (float[n, 3, 4, 4] y) {
        wide = MatMul(images, fc__weight__T)
        turned = Transpose<perm = [0, 1, 3, 2]>(wide)
        y = MatMul(wide, turned)
    }"""

    costs = node_costs(made(text, fc__weight__T=kept(6, 5)), (2, 3, 4, 6))

    rows = 2 * 3 * 4
    assert [cost.macs for cost in costs] == [rows * 6 * 5, 0, rows * 5 * 4]
    assert [cost.nonzero_macs for cost in costs] == [rows * 20, 0, rows * 5 * 4]
    assert [cost.module for cost in costs] == ["fc", None, None]


QUANTIZED = """g (float[n, 3, h, w] images) => (float[n, 4, h, w] y) {
    weight = DequantizeLinear<axis = 0>(c__weight_quantized, scale, point)
    y = Conv(images, weight)
}"""


def test_a_zero_of_int8_is_its_zero_point() -> None:
    weight = np.arange(12, dtype=np.int8).reshape(4, 3, 1, 1)
    point = np.asarray([0, 5, 5, 0], np.int8)  # 0 of 0 1 2, 5 of 3 4 5, none of 6 7 8, none of 9 10 11
    graph = made(QUANTIZED, c__weight_quantized=weight, scale=np.ones(4, np.float32), point=point)

    actual = only(graph, 1, 3, 2, 2, op_type="Conv")

    assert (actual.module, actual.macs, actual.nonzero_macs) == ("c", 12 * 4, 10 * 4)
    assert (actual.is_int8, actual.weight_bytes) == (True, 12)


def test_an_integer_matmul_has_its_zero_point_in_columns() -> None:
    text = """g (float[n, 2] images) => (int32[n, 3] y) {
        bytes = Cast<to = 2>(images)
        y = MatMulInteger(bytes, w, zero, point)
    }"""
    weight = np.asarray([[1, 2, 3], [4, 5, 6]], np.int8)
    graph = made(text, w=weight, zero=np.asarray(0, np.uint8), point=np.asarray([1, 9, 6], np.int8))

    actual = only(graph, 5, 2, op_type="MatMulInteger")

    assert (actual.macs, actual.nonzero_macs) == (30, 20)


def test_what_cannot_be_counted_is_none_and_what_multiplies_nothing_is_zero() -> None:
    text = """g (float[n, 4] images) => (float[n] y, float[n, 4] z) {
        y = Einsum<equation = "ij->i">(images)
        z = Relu(images)
    }"""

    assert [cost.macs for cost in node_costs(made(text), (2, 4))] == [None, 0]


def test_images_of_other_axes_are_refused() -> None:
    text = "g (float[n, 4] images) => (float[n, 4] z) { z = Relu(images) }"

    with pytest.raises(ConfigError, match=r"have \[2\] axes; the images \[1, 3, 8, 8\]"):
        node_costs(made(text), (1, 3, 8, 8))


@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v2"])
def test_an_exported_network_costs_what_the_mask_table_says(name: str) -> None:
    model = networks.build(name, num_classes=10).eval()
    mask = random_mask(model, density=0.3)
    graph = export(model, torch.zeros(1, 3, 32, 32), mask=mask)

    costs = node_costs(graph, (4, 3, 32, 32))

    expected = {
        row.name.removesuffix(".weight"): (4 * row.macs, 4 * row.kept_macs)
        for row in mask_table(mask, layer_costs(model, (3, 32, 32))).rows
    }
    assert expected == {cost.module: (cost.macs, cost.nonzero_macs) for cost in costs if cost.macs}
