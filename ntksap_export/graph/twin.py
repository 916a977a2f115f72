"""The dense twin: the same graph with no zero in its weights, to be timed beside the sparse one."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, numpy_helper

from ntksap_export.graph.model import Graph


def dense_twin(graph: Graph, seed: int = 0) -> Graph:
    """A copy without zeros in its weights (initializers of two or more axes). Its answers mean nothing.

    float32 and float16 become Kaiming-normal draws. In int8 each zero becomes another code; the rest stays, and so do
    nodes, opset, metadata, and the form of the input.
    """
    proto = copy.deepcopy(graph.proto)
    generator = np.random.default_rng(seed)
    for item in proto.graph.initializer:
        if len(item.dims) < 2:
            continue
        if item.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16):
            fan_in = int(np.prod(item.dims[1:]))
            values = generator.standard_normal(tuple(item.dims), dtype=np.float32) * np.float32((2 / fan_in) ** 0.5)
            if item.data_type == TensorProto.FLOAT16:
                values = _no_zero(values.astype(np.float16))
            item.CopyFrom(numpy_helper.from_array(values, item.name))
        elif item.data_type == TensorProto.INT8:
            codes = numpy_helper.to_array(item).copy()
            drawn = generator.integers(1, 64, codes.shape, dtype=np.int8) * generator.choice([-1, 1], codes.shape)
            item.CopyFrom(numpy_helper.from_array(np.where(codes == 0, drawn, codes).astype(np.int8), item.name))
    return Graph(proto, graph.parameters)


def _no_zero(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What rounding made zero, as the smallest normal number."""
    return np.where(values == 0, np.finfo(values.dtype).tiny, values)


def weight_sparsity(graph: Graph) -> float:
    """Share of exact zeros among the values of all weights of two or more axes; 0 where there are none."""
    zeros = total = 0
    for _, values in graph.weights():
        zeros += values.size - int(np.count_nonzero(values))
        total += values.size
    return zeros / total if total else 0.0
