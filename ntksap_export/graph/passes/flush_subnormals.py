"""Write a true zero for each subnormal number.

    w' = 0 if 0 < |w| < smallest normal of its type, else w

A network that was pruned and trained leaves tiny numbers in biases and dead channels; arithmetic on them runs 10 to 40
times slower on many CPUs. The largest change is 1.2e-38 (float32), far below rounding.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper


def apply_(proto: onnx.ModelProto) -> str:
    """Flush float32, float16 and float64 initializers of `proto` in place; exact zeros stay."""
    flushed = 0
    for item in proto.graph.initializer:
        if item.data_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE):
            continue
        values = numpy_helper.to_array(item)
        tiny = (values != 0) & (np.abs(values) < np.finfo(values.dtype).smallest_normal)
        if count := int(tiny.sum()):
            flushed += count
            item.CopyFrom(numpy_helper.from_array(np.where(tiny, 0, values).astype(values.dtype), item.name))
    return f"{flushed} subnormal values set to zero"
