"""The dense twin: the same graph with no zero in its weights, to be timed beside the sparse one."""

from __future__ import annotations

import copy

import numpy as np
from onnx import TensorProto, numpy_helper

from ntksap_export.graph.model import Graph


def dense_twin(graph: Graph, seed: int = 0) -> Graph:
    """A copy whose float32 weights (two or more axes) are Kaiming-normal draws. Its answers mean nothing."""
    proto = copy.deepcopy(graph.proto)
    generator = np.random.default_rng(seed)
    for item in proto.graph.initializer:
        if len(item.dims) >= 2 and item.data_type == TensorProto.FLOAT:
            fan_in = int(np.prod(item.dims[1:]))
            values = generator.standard_normal(tuple(item.dims), dtype=np.float32) * np.float32((2 / fan_in) ** 0.5)
            item.CopyFrom(numpy_helper.from_array(values, item.name))
    return Graph(proto, graph.parameters)


def weight_sparsity(graph: Graph) -> float:
    """Share of exact zeros among the values of all weights of two or more axes; 0 where there are none."""
    zeros = total = 0
    for _, values in graph.weights():
        zeros += values.size - int(np.count_nonzero(values))
        total += values.size
    return zeros / total if total else 0.0
