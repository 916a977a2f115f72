"""Shapes and types of a graph's values, as far as onnx can tell them."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
from onnx import helper

Shape = tuple[int | str | None, ...]  # an axis is a number, a name, or None

_SMALL: Final = 4096  # elements; larger initializers tell shape inference nothing but their shape


def infer_shapes(proto: onnx.ModelProto) -> tuple[dict[str, Shape], dict[str, int]]:
    """Shapes and element types of the values whose rank is known; nothing of a graph that contradicts itself."""
    # over a copy without its large initializers: their shapes are enough, and 2 GiB are no limit then
    light = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
    graph, source = light.graph, proto.graph
    graph.name = source.name or "graph"
    graph.node.extend(source.node)
    graph.output.extend(source.output)
    graph.sparse_initializer.extend(source.sparse_initializer)
    given = {value.name for value in source.input}
    graph.input.extend(source.input)
    for item in source.initializer:
        if int(np.prod(item.dims, dtype=np.int64)) <= _SMALL:
            graph.initializer.append(item)
        if item.name not in given:
            graph.input.append(helper.make_tensor_value_info(item.name, item.data_type, list(item.dims)))
    try:
        light = onnx.shape_inference.infer_shapes(light, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return {}, {}  # nothing is known, so that nothing is touched
    shapes: dict[str, Shape] = {}
    types: dict[str, int] = {}
    for value in (*light.graph.input, *light.graph.value_info, *light.graph.output):
        tensor = value.type.tensor_type
        if value.type.HasField("tensor_type") and tensor.HasField("shape"):
            shapes[value.name] = tuple(_axis(axis) for axis in tensor.shape.dim)
            types[value.name] = tensor.elem_type
    return shapes, types


def _axis(axis: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if axis.HasField("dim_value"):
        return int(axis.dim_value)
    return str(axis.dim_param) or None
