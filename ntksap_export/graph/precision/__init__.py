"""Graphs in fewer bits, the part that needs no runtime: which layers there are, what must hold of the result.

Converters live where onnxruntime does, `runtime.quantize` and `runtime.half`; they take a `Graph` and give another.
"""

from ntksap_export.graph.precision.biases import with_exact_biases
from ntksap_export.graph.precision.fp16 import FP16_LARGEST, check_fp16, check_fp16_range, without_tiny
from ntksap_export.graph.precision.int8 import INT8_OPERATORS, check_int8, float_operators
from ntksap_export.graph.precision.layers import Layer, choose_layers, layers, named, precision_of
from ntksap_export.graph.precision.tidy import tidy

__all__ = [
    "FP16_LARGEST",
    "INT8_OPERATORS",
    "Layer",
    "check_fp16",
    "check_fp16_range",
    "check_int8",
    "choose_layers",
    "float_operators",
    "layers",
    "named",
    "precision_of",
    "tidy",
    "with_exact_biases",
    "without_tiny",
]
