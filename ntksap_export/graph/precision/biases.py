"""What a channel without weights says, exact in int8.

    b = scale_of_the_input * scale[channel] * q,    q int32

A channel whose weights are all zero says its bias and nothing else, and any scale keeps its zeros. onnxruntime's
quantizer gives it 1, so that its bias is rounded to whole steps of the layer's input: a classifier that a mask emptied
then answers 0. Here the scale is the one for which q is 2^20, so that the bias is exact to 1e-6.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Final

import numpy as np
import onnx
from onnx import numpy_helper

from ntksap_export.graph.model import Graph
from ntksap_export.graph.precision.layers import WEIGHTED

_STEPS: Final = 2.0**20  # float32 products, which runtimes requantize with, hold it exactly


def with_exact_biases(int8: Graph, graph: Graph) -> Graph:
    """A copy with a scale of its own for each channel whose weights are all zero and whose bias is not.

    Args:
        int8: as onnxruntime's quantizer writes it.
        graph: the float32 one it was made of.
    """
    proto = copy.deepcopy(int8.proto)
    constants = {item.name: item for item in proto.graph.initializer}
    before = {item.name: item for item in graph.proto.graph.initializer}
    makers = {node.output[0]: node for node in proto.graph.node if node.op_type == "DequantizeLinear"}
    uses = Counter(name for node in proto.graph.node for name in node.input)
    for node in proto.graph.node:
        parts = [makers.get(name) for name in node.input[:3]] if node.op_type in WEIGHTED else []
        found = [part for part in parts if part is not None]
        if len(found) < 3 or any(uses[part.input[0]] > 1 for part in found[1:]):  # no bias, or shared with others
            continue
        source, weight, bias = found
        told = before.get(bias.input[0].removesuffix("_quantized"))
        if told is not None and source.input[1] in constants:
            step = float(numpy_helper.to_array(constants[source.input[1]]).item())
            _refine_(constants, weight, bias, numpy_helper.to_array(told), step)
    return Graph(proto, int8.parameters)


def _refine_(
    constants: dict[str, onnx.TensorProto], weight: onnx.NodeProto, bias: onnx.NodeProto, told: np.ndarray, step: float
) -> None:
    scale = numpy_helper.to_array(constants[weight.input[1]])
    axis = next((item.i for item in weight.attribute if item.name == "axis"), 1)
    values = numpy_helper.to_array(constants[weight.input[0]])
    if scale.ndim != 1 or scale.shape != told.shape or values.shape[axis] != len(scale):
        return
    silent = ~np.moveaxis(values, axis, 0).reshape(len(scale), -1).any(axis=1) & (told != 0)
    if not silent.any():
        return
    least = np.finfo(np.float32).smallest_normal
    fine = np.maximum(np.abs(told.astype(np.float64)) / (step * _STEPS), least).astype(np.float32)
    scale = np.where(silent, fine, scale)
    steps = scale * np.float32(step)
    old = numpy_helper.to_array(constants[bias.input[0]])
    whole = np.round(told.astype(np.float64) / np.maximum(steps, least)).clip(-(2**31), 2**31 - 1)
    numbers = np.where(silent, whole, old).astype(np.int32)
    for name, value in ((weight.input[1], scale), (bias.input[1], steps), (bias.input[0], numbers)):
        constants[name].CopyFrom(numpy_helper.from_array(value, name))
