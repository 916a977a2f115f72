"""Normalization inside the graph: equal answers on pixels, and where it was put."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from ntksap_export.errors import ExportError
from ntksap_export.graph import Graph, Normalized, Preprocessing, pixels_taken, take_pixels

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def convolution(pads: int = 0, bias: bool = True, group: int = 1, kind: str = "Conv") -> Graph:
    """images (N, 3, 5, 6) -> one convolution with a third of its weights zero; or a Relu before it."""
    draw = np.random.default_rng(0)
    weight = draw.standard_normal((6, 3 // group, 3, 3)).astype(np.float32)
    weight[draw.random(weight.shape) < 0.3] = 0
    initializers = [numpy_helper.from_array(weight, "conv.weight")]
    if bias:
        initializers.append(numpy_helper.from_array(draw.standard_normal(6).astype(np.float32), "conv.bias"))
    first = "images" if kind == "Conv" else "positive"
    nodes = [] if kind == "Conv" else [helper.make_node("Relu", ["images"], ["positive"])]
    inputs = [first, *(item.name for item in initializers)]
    nodes.append(helper.make_node("Conv", inputs, ["logits"], pads=[pads] * 4, group=group))
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("images", 1, ["batch", 3, "height", 6])],
        [helper.make_tensor_value_info("logits", 1, ["batch", 6, "high", "wide"])],
        initializers,
    )
    return Graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), ())


def run(graph: Graph, images: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(graph.proto, full_check=True)
    session = onnxruntime.InferenceSession(graph.to_bytes(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"images": images})[0])


def kinds(graph: Graph) -> list[str]:
    return [node.op_type for node in graph.proto.graph.node]


CASES = [
    ({"pads": 0}, ["Conv"], "folded into the first convolution"),
    ({"pads": 0, "bias": False}, ["Conv"], "folded into the first convolution"),
    ({"pads": 1}, ["Sub", "Conv"], "std folded into the first convolution, a Sub of the mean"),
    ({"pads": 1, "group": 3}, ["Sub", "Div", "Conv"], "a Sub and a Div"),
    ({"pads": 1, "kind": "Relu"}, ["Sub", "Div", "Relu", "Conv"], "a Sub and a Div"),
]


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize(("how", "nodes", "said"), CASES)
def test_a_graph_of_pixels_gives_the_answers_of_normalized_images(
    how: dict[str, object], nodes: list[str], said: str, dtype: str
) -> None:
    graph = convolution(**how)  # type: ignore[arg-type]
    before = graph.proto.SerializeToString()
    pixels = np.random.default_rng(1).integers(0, 256, (2, 5, 6, 3), dtype=np.uint8)
    unit = (pixels / 255.0).transpose(0, 3, 1, 2)
    normalized = (unit - np.array(MEAN)[None, :, None, None]) / np.array(STD)[None, :, None, None]
    expected = run(graph, normalized.astype(np.float32))

    taking, line = take_pixels(graph, MEAN, STD, dtype)

    actual = run(taking, pixels if dtype == "uint8" else unit.astype(np.float32))
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    assert (["Cast", "Transpose"] if dtype == "uint8" else []) + nodes == kinds(taking)
    assert f"normalization: {said}" == line[: len(f"normalization: {said}")]
    assert before == graph.proto.SerializeToString()


def test_zeros_stay_zeros_and_no_other_weight_becomes_one() -> None:
    graph = convolution(1)

    taking, _ = take_pixels(graph, MEAN, STD, "uint8")

    (before,), (after,) = ([values for _, values in one.weights() if values.shape[0] == 6] for one in (graph, taking))
    assert np.array_equal(before == 0, after == 0)
    assert 0 < (after == 0).sum() < after.size


def test_a_bias_that_the_fold_makes_has_the_convolutions_name() -> None:
    taking, _ = take_pixels(convolution(0, bias=False), MEAN, STD)

    assert {"conv.weight", "conv.bias"} == {item.name for item in taking.proto.graph.initializer}


def test_a_weight_that_two_layers_share_is_not_touched() -> None:
    graph = convolution(0)
    graph.proto.graph.node.append(helper.make_node("Conv", ["other", "conv.weight"], ["second"]))
    graph.proto.graph.input.append(helper.make_tensor_value_info("other", 1, ["batch", 3, 5, 6]))
    graph.proto.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 3, 5, 6), np.float32), "other"))

    taking, _ = take_pixels(graph, MEAN, STD)

    assert ["Sub", "Div", "Conv", "Conv"] == kinds(taking)


@pytest.mark.parametrize("shape", [["batch", 1, 5, 6], ["batch", 3, 5]])
def test_an_input_without_three_channels_is_refused(shape: list[str | int]) -> None:
    graph = convolution()
    graph.proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("images", 1, shape))

    with pytest.raises(ExportError, match="leave --normalize away"):
        take_pixels(graph, MEAN, STD)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_the_model_it_is_compared_with_takes_the_same_pixels(dtype: str) -> None:
    told = pixels_taken(Preprocessing((5, 6), MEAN, STD), dtype)
    pixels = torch.randint(0, 256, (2, 5, 6, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    unit = pixels.permute(0, 3, 1, 2).double() / 255
    expected = (unit - torch.tensor(MEAN).double().view(1, 3, 1, 1)) / torch.tensor(STD).double().view(1, 3, 1, 1)

    actual = Normalized(torch.nn.Identity(), told)(pixels if dtype == "uint8" else unit.float())

    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)
    assert ((0, 0, 0), (1, 1, 1), MEAN, STD) == (told.mean, told.std, told.graph_mean, told.graph_std)
    assert (("uint8", "NHWC", (0, 255)) if dtype == "uint8" else ("float32", "NCHW", (0, 1))) == (
        told.dtype, told.layout, told.value_range,
    )  # fmt: skip
