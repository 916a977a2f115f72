"""Normalization inside the graph, so that it takes pixels and nobody has to know mean and std.

    float32   images (N, 3, H, W) in [0, 1]          x' = (x - mean) / std
    uint8     images (N, H, W, 3), bytes of a camera  x' = (x - 255 mean) / (255 std), after Cast and Transpose

The first convolution, y = W * x' + b, can take std over, W'[o,c] = W[o,c] / std[c]: exact up to rounding at every
padding, since what is padded is 0 in both, and zeros of W stay zeros. The mean could go into its bias,
b'[o] = b[o] - sum W'[o,c,h,w] mean[c], but only where nothing is padded: a convolution pads x' with 0, which is the
mean, and x with 0, which is black. So

    first convolution, no padding     both are folded, no node is added
    first convolution, zero padding   std is folded, a Sub of the mean stays
    anything else                     a Sub and a Div stay
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

from ntksap_export.errors import ExportError
from ntksap_export.graph.model import Graph
from ntksap_export.graph.preprocessing import Preprocessing

Values = npt.NDArray[Any]
BYTE: Final = 255.0
MEAN, STD = "input.mean", "input.std"


def pixels_taken(told: Preprocessing, dtype: str) -> Preprocessing:
    """What is left to the caller of a graph that normalizes: `told` without mean and std.

    Args:
        told: of the graph before.
        dtype: `float32`, or `uint8` for bytes in the order NHWC.
    """
    left = dataclasses.replace(
        told, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), graph_mean=told.mean, graph_std=told.std
    )
    return left if dtype != "uint8" else dataclasses.replace(left, dtype=dtype, layout="NHWC", value_range=(0.0, BYTE))


def take_pixels(graph: Graph, mean: Sequence[float], std: Sequence[float], dtype: str = "float32") -> tuple[Graph, str]:
    """A graph that normalizes its input itself.

    Args:
        graph: with one float32 input (N, 3, H, W), normalized; left untouched.
        mean: per channel, on the scale where white is 1.
        std: likewise, above 0.
        dtype: of the new input: `float32` in [0, 1], or `uint8` (N, H, W, 3).

    Returns:
        The new graph, and one line that says where the normalization is.

    Raises:
        ExportError: the graph's input is none of 3 channels.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    _check_input(proto.graph)
    scale = BYTE if dtype == "uint8" else 1.0
    shift: Values | None = np.array(mean, np.float64) * scale
    factor: Values | None = np.array(std, np.float64) * scale
    convolution = _only_convolution(proto.graph)
    said = "a Sub and a Div stand before the first layer"
    if convolution is not None:
        weight = _divide_weight_(proto.graph, convolution, np.array(std, np.float64) * scale)
        factor = None
        said = "std folded into the first convolution, a Sub of the mean before it: zero padding pads with black"
        if not _pads(convolution):
            _shift_bias_(proto.graph, convolution, weight, np.array(mean, np.float64) * scale)
            shift, said = None, "folded into the first convolution"
    _insert_(proto.graph, shift, factor, dtype)
    if dtype == "uint8":
        said += "; input uint8 NHWC"
    return Graph(proto, graph.parameters), f"normalization: {said}"


class Normalized(nn.Module):
    """A model behind the same input as a graph of `take_pixels`: what the graph is compared with.

    Args:
        model: takes normalized images; becomes a part of this module.
        told: of the graph.
    """

    def __init__(self, model: nn.Module, told: Preprocessing) -> None:
        super().__init__()
        self._mean: torch.Tensor
        self._std: torch.Tensor
        assert told.graph_mean is not None
        assert told.graph_std is not None
        self._model, self._nhwc, self._white = model, told.layout == "NHWC", told.value_range[1]
        self.register_buffer("_mean", torch.tensor(told.graph_mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(told.graph_std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Pixels as the graph takes them -> logits."""
        pixels = images.float() / self._white
        if self._nhwc:
            pixels = pixels.permute(0, 3, 1, 2)
        logits: torch.Tensor = self._model((pixels - self._mean) / self._std)
        return logits


def _check_input(graph: onnx.GraphProto) -> None:
    fixed = {item.name for item in graph.initializer}
    inputs = [value for value in graph.input if value.name not in fixed]
    sides = [axis.dim_value for axis in inputs[0].type.tensor_type.shape.dim] if len(inputs) == 1 else []
    if len(sides) != 4 or sides[1] != 3 or inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise ExportError("only a graph with one float32 input (N, 3, H, W) can normalize it; leave --normalize away")


def _only_convolution(graph: onnx.GraphProto) -> onnx.NodeProto | None:
    """The convolution that alone takes the input, with a weight that nothing else uses."""
    name = graph.input[0].name
    users = [node for node in graph.node if name in node.input]
    if len(users) != 1 or users[0].op_type != "Conv" or name in {value.name for value in graph.output}:
        return None
    group = next((item.i for item in users[0].attribute if item.name == "group"), 1)
    weight = users[0].input[1]
    known = any(item.name == weight and item.data_type == onnx.TensorProto.FLOAT for item in graph.initializer)
    alone = all(_uses(graph, part) == 1 for part in users[0].input[1:])
    return users[0] if group == 1 and known and alone else None


def _uses(graph: onnx.GraphProto, name: str) -> int:
    inner = 0
    for node in graph.node:
        for item in node.attribute:
            inner += sum(_uses(one, name) for one in (*item.graphs, *([item.g] if item.HasField("g") else [])))
    return inner + sum(list(node.input).count(name) for node in graph.node)


def _pads(node: onnx.NodeProto) -> bool:
    for item in node.attribute:
        if item.name == "pads" and any(item.ints):
            return True
        if item.name == "auto_pad" and item.s not in (b"NOTSET", b"VALID"):
            return True
    return False


def _initializer(graph: onnx.GraphProto, name: str) -> onnx.TensorProto | None:
    return next((item for item in graph.initializer if item.name == name), None)


def _divide_weight_(graph: onnx.GraphProto, node: onnx.NodeProto, factor: Values) -> Values:
    item = _initializer(graph, node.input[1])
    assert item is not None
    divided: Values = numpy_helper.to_array(item).astype(np.float64) / factor[None, :, None, None]  # (out, in, kh, kw)
    item.CopyFrom(numpy_helper.from_array(divided.astype(np.float32), item.name))
    return divided


def _shift_bias_(graph: onnx.GraphProto, node: onnx.NodeProto, weight: Values, shift: Values) -> None:
    taken = (weight * shift[None, :, None, None]).sum((1, 2, 3))
    if len(node.input) > 2 and (item := _initializer(graph, node.input[2])) is not None:
        values = numpy_helper.to_array(item).astype(np.float64) - taken
        item.CopyFrom(numpy_helper.from_array(values.astype(np.float32), item.name))
        return
    name = f"{node.input[1].removesuffix('.weight')}.bias"
    graph.initializer.append(numpy_helper.from_array((-taken).astype(np.float32), name))
    del node.input[2:]
    node.input.append(name)


def _insert_(graph: onnx.GraphProto, shift: Values | None, factor: Values | None, dtype: str) -> None:
    """Put the nodes in front, and change the declared input."""
    name = at = graph.input[0].name
    nodes = []
    for kind, wanted, values in (
        ("Cast", dtype == "uint8", None), ("Transpose", dtype == "uint8", None),
        ("Sub", shift is not None, (MEAN, shift)), ("Div", factor is not None, (STD, factor)),
    ):  # fmt: skip
        if not wanted:
            continue
        options: dict[str, Any] = {"Cast": {"to": onnx.TensorProto.FLOAT}, "Transpose": {"perm": [0, 3, 1, 2]}}
        inputs = [at]
        if values is not None:
            constant = np.asarray(values[1], np.float32).reshape(1, 3, 1, 1)
            graph.initializer.append(numpy_helper.from_array(constant, values[0]))
            inputs.append(values[0])
        at = f"{name}_{kind.lower()}"
        nodes.append(helper.make_node(kind, inputs, [at], name=f"input_{kind.lower()}", **options.get(kind, {})))
    _redirect_(graph, name, at)
    left = onnx.GraphProto(node=[*nodes, *graph.node])
    graph.ClearField("node")
    graph.MergeFrom(left)
    if dtype == "uint8":
        declared = graph.input[0].type.tensor_type
        declared.elem_type = onnx.TensorProto.UINT8
        axes = [onnx.TensorShapeProto.Dimension.FromString(axis.SerializeToString()) for axis in declared.shape.dim]
        del declared.shape.dim[:]
        declared.shape.dim.extend(axes[place] for place in (0, 2, 3, 1))


def _redirect_(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new
        for item in node.attribute:
            for inner in (*item.graphs, *([item.g] if item.HasField("g") else [])):
                _redirect_(inner, old, new)
