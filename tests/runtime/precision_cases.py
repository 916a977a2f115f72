"""A small trained-looking network as a graph, and images for it."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from ntksap_export.graph import Graph

# Two convolutions, the second with a channel of zeros, a residual sum, an operator without int8, and a classifier.
SMALL = """
    <ir_version: 10, opset_import: ["" : 20]>
    small (float[batch, 3, 8, 8] images) => (float[batch, 5] logits)
    {
        first = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(images, conv1_weight, conv1_bias)
        active = Relu(first)
        second = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(active, conv2_weight, conv2_bias)
        summed = Add(second, active)
        swished = HardSwish(summed)
        pooled = GlobalAveragePool(swished)
        flat = Flatten(pooled)
        logits = Gemm<transB = 1>(flat, fc_weight, fc_bias)
    }
"""
SHAPES = {
    "conv1.weight": (8, 3, 3, 3),
    "conv1.bias": (8,),
    "conv2.weight": (8, 8, 3, 3),
    "conv2.bias": (8,),
    "fc.weight": (5, 8),
    "fc.bias": (5,),
}


def small_graph(density: float = 0.3) -> Graph:
    """The graph; of each weight about `density` is kept, and channel 2 of conv2 has none."""
    draw = np.random.default_rng(0)
    proto = onnx.parser.parse_model(SMALL)
    for node in proto.graph.node:  # the text cannot have a dot in a name
        node.input[1:] = [name.replace("_", ".") for name in node.input[1:]]
    for name, shape in SHAPES.items():
        values = draw.standard_normal(shape).astype(np.float32)
        if len(shape) > 1:
            values *= draw.random(shape) < density
        if name == "conv2.weight":
            values[2] = 0
        proto.graph.initializer.append(numpy_helper.from_array(values, name))
    return Graph(proto, tuple(SHAPES))


def batches(count: int = 4, size: int = 8, seed: int = 1) -> list[np.ndarray]:
    """Batches of images (size, 3, 8, 8)."""
    draw = np.random.default_rng(seed)
    return [draw.standard_normal((size, 3, 8, 8), dtype=np.float32) for _ in range(count)]


def initializers(graph: Graph) -> dict[str, np.ndarray]:
    """All of them by name."""
    return {item.name: numpy_helper.to_array(item) for item in graph.proto.graph.initializer}
