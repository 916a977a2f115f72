"""Small graphs, written as ONNX text."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

TINY = """
    <ir_version: 10, opset_import: ["" : 20]>
    tiny (float[batch, 3, 4, 4] images) => (float[batch, 2] logits)
    <float[3, 2] w = {1, 0, -1, 2, 0, 3}, float[2] b = {0, 1}>
    {
        pooled = GlobalAveragePool(images)
        flat = Flatten<axis = 1>(pooled)
        product = MatMul(flat, w)
        logits = Add(product, b)
    }
"""

BRANCHES = """
    <ir_version: 10, opset_import: ["" : 20, "own" : 1]>
    branches (float[batch, 2] images, bool flag) => (float[batch, 2] logits)
    {
        twice = own.double(images)
        logits = If (flag) <
            then_branch = yes () => (float[batch, 2] a) { a = Relu(twice) },
            else_branch = no () => (float[batch, 2] b) { b = Neg(twice) }
        >
    }
    <domain: "own", opset_import: ["" : 20]>
    double (x) => (y) { y = Add(x, x) }
"""


def parse(text: str = TINY, **values: np.ndarray) -> onnx.ModelProto:
    """The model of `text`; `values` take the place of initializers of their names."""
    proto = onnx.parser.parse_model(text)
    for item in proto.graph.initializer:
        if item.name in values:
            item.CopyFrom(numpy_helper.from_array(values[item.name], item.name))
    return proto


def initializer(proto: onnx.ModelProto, name: str) -> np.ndarray:
    """The value of one initializer."""
    (found,) = [item for item in proto.graph.initializer if item.name == name]
    return numpy_helper.to_array(found)
