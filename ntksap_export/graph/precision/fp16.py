"""What fp16 must respect: numbers below its smallest become zero, and none lies above its largest, 65504.

The converter moves a number below 5.96e-8, fp16's smallest subnormal, up to it, and one above 65504 down to it, without
a word. Here the first becomes the zero that rounding gives, and the second is refused.
"""

from __future__ import annotations

import copy
from typing import Final

import numpy as np
import onnx
from onnx import numpy_helper

from ntksap_export.errors import ExportError
from ntksap_export.graph.model import Graph

FP16_LARGEST: Final = 65504.0
_HALF_OF_SMALLEST: Final = 2.0**-25  # and below rounds to 0, ties to even


def without_tiny(graph: Graph) -> Graph:
    """A copy whose float32 initializers have a zero for each number that fp16 rounds to it."""
    proto = copy.deepcopy(graph.proto)
    for item in proto.graph.initializer:
        if item.data_type == onnx.TensorProto.FLOAT:
            values = numpy_helper.to_array(item)
            tiny = (values != 0) & (np.abs(values) <= _HALF_OF_SMALLEST)
            if tiny.any():
                item.CopyFrom(numpy_helper.from_array(np.where(tiny, np.float32(0), values), item.name))
    return Graph(proto, graph.parameters)


def check_fp16_range(graph: Graph) -> None:
    """Refuse initializers beyond fp16.

    Raises:
        ExportError: names one and its value.
    """
    for item in graph.proto.graph.initializer:
        if item.data_type == onnx.TensorProto.FLOAT:
            values = np.abs(numpy_helper.to_array(item))
            if values.size and not values.max() <= FP16_LARGEST:
                raise ExportError(
                    f"'{item.name}' holds {values.max():.4g}; fp16 ends at {FP16_LARGEST:g}. Leave --fp16 away, or "
                    "scale the layer"
                )


def check_fp16(fp16: Graph, graph: Graph) -> None:
    """Check that every zero of the float32 weights is a zero in fp16, and that each value is the nearest one.

    Raises:
        ExportError: names the initializer.
    """
    halves = {item.name: item for item in fp16.proto.graph.initializer}
    for item in graph.proto.graph.initializer:
        if item.data_type != onnx.TensorProto.FLOAT or item.name not in halves:
            continue
        made = halves[item.name]
        if made.data_type == onnx.TensorProto.FLOAT16:
            expected = numpy_helper.to_array(item).astype(np.float16)
            if not np.array_equal(numpy_helper.to_array(made), expected):
                raise ExportError(f"'{item.name}' was not rounded to the nearest fp16; its zeros cannot be trusted")
