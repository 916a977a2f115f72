"""What int8 must respect of a pruned graph, and what of it stays float32.

    w = scale[channel] * q,    q in -127..127, zero point 0, so that 0 is 0 exactly
    b = scale_of_the_input * scale[channel] * q,    q int32

A channel whose weights are all zero has no scale of its own: `biases` gives it one.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np
import onnx
from onnx import numpy_helper

from ntksap_export.errors import ExportError
from ntksap_export.graph.model import Graph
from ntksap_export.graph.precision.layers import WEIGHTED, layers

# What onnxruntime's CPU computes in int8. Others (HardSwish, ReduceMean, ...) stay float32 between.
INT8_OPERATORS: Final = (
    "Add", "AveragePool", "Clip", "Concat", "Conv", "ConvTranspose", "Flatten", "Gemm", "GlobalAveragePool",
    "LeakyRelu", "MatMul", "MaxPool", "Mul", "Pad", "Relu", "Reshape", "Sigmoid", "Split", "Squeeze", "Transpose",
    "Unsqueeze",
)  # fmt: skip
_COMPUTE_NOTHING: Final = (
    "DequantizeLinear",
    "Flatten",
    "QuantizeLinear",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)


def check_int8(int8: Graph, graph: Graph) -> tuple[str, ...]:
    """Check that each zero of the float32 weights is exactly zero in int8.

    Args:
        int8: with initializers `NAME_quantized`, their zero points and scales.
        graph: the float32 one it was made of.

    Returns:
        Names of the layers that are int8.

    Raises:
        ExportError: a zero became something else; names the weight.
    """
    found = {item.name: item for item in int8.proto.graph.initializer}
    before = {item.name: item for item in graph.proto.graph.initializer}
    done = []
    for layer in layers(graph):
        values = numpy_helper.to_array(before[layer.weight])
        quantized, kept = found.get(f"{layer.weight}_quantized"), found.get(layer.weight)
        if quantized is None:
            if kept is None or not np.array_equal(numpy_helper.to_array(kept), values):
                raise ExportError(f"the int8 graph has no weight '{layer.weight}'; its zeros cannot be checked")
            continue
        point = found.get(f"{layer.weight}_zero_point")
        if quantized.data_type != onnx.TensorProto.INT8 or point is None or numpy_helper.to_array(point).any():
            raise ExportError(f"'{layer.weight}' is not symmetric int8 in the quantized graph; its zeros are not zeros")
        if numpy_helper.to_array(quantized)[values == 0].any():
            raise ExportError(f"pruned weights of '{layer.weight}' are not zero in the int8 graph")
        if kept is None:  # a weight that two layers share may be float32 in one of them
            done.append(layer.name)
    return tuple(done)


def float_operators(int8: Graph) -> dict[str, int]:
    """Operators that compute in float32 in a quantized graph, and how many nodes of each."""
    quantized = {name for node in int8.proto.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    constant = {item.name for item in int8.proto.graph.initializer}
    left: Counter[str] = Counter()
    for node in int8.proto.graph.node:
        reads = {name for name in node.input if name} - constant
        weight = node.op_type in WEIGHTED and node.input[1] in constant
        if node.op_type not in _COMPUTE_NOTHING and (
            weight or node.op_type not in INT8_OPERATORS or not reads <= quantized
        ):
            left[node.op_type] += 1
    return dict(sorted(left.items()))
