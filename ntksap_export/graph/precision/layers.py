"""The layers of a graph: its nodes with a constant weight, called what their parameters are called."""

from __future__ import annotations

import collections
import copy
import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import onnx

from ntksap_export.errors import ConfigError
from ntksap_export.graph.model import Graph
from ntksap_export.graph.naming import module_of

_WEIGHT_AT: Final = 1  # of the inputs of Conv, Gemm and MatMul
WEIGHTED: Final = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_PRECISIONS: Final[dict[int, str]] = {onnx.TensorProto.FLOAT16: "fp16", onnx.TensorProto.BFLOAT16: "bf16"}


@dataclass(frozen=True, slots=True)
class Layer:
    """A node with a weight.

    Attributes:
        name: `layer1.0.conv1`, from its weight's initializer.
        node: of the graph.
        weight: the initializer.
    """

    name: str
    node: str
    weight: str


def named(graph: Graph) -> Graph:
    """A copy in which every node has a name of its own: the quantizer picks nodes by name."""
    proto = copy.deepcopy(graph.proto)
    taken: set[str] = set()
    for number, node in enumerate(proto.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{number}"
            while node.name in taken:
                node.name += "_"
        taken.add(node.name)
    return Graph(proto, graph.parameters)


def layers(graph: Graph) -> tuple[Layer, ...]:
    """Convolutions and matrix products with a constant weight, in the order of the graph; see `named`."""
    constants = {item.name for item in graph.proto.graph.initializer if item.data_type == onnx.TensorProto.FLOAT}
    found = []
    for node in graph.proto.graph.node:
        if node.op_type in WEIGHTED and node.input[_WEIGHT_AT] in constants:
            weight = node.input[_WEIGHT_AT]
            found.append(Layer(module_of(weight) or weight, node.name, weight))
    return tuple(found)


def precision_of(graph: Graph) -> str:
    """What the graph computes in: `int8` if anything is quantized, `fp16` or `bf16` by its weights, else `fp32`."""
    if any("uantize" in node.op_type or node.op_type.endswith("Integer") for node in graph.proto.graph.node):
        return "int8"
    counts: collections.Counter[int] = collections.Counter()
    for item in graph.proto.graph.initializer:
        if len(item.dims) >= 2:
            counts[item.data_type] += math.prod(item.dims)
    return _PRECISIONS.get(counts.most_common(1)[0][0], "fp32") if counts else "fp32"


def choose_layers(found: Iterable[Layer], names: Iterable[str]) -> tuple[Layer, ...]:
    """The layers of these names, with or without `.weight`; a name also stands for all below it (`layer1`).

    Raises:
        ConfigError: a name that is no layer's.
    """
    everything = tuple(found)
    chosen: set[str] = set()
    for name in names:
        asked = name.removesuffix(".weight")
        hit = {layer.name for layer in everything if layer.name == asked or layer.name.startswith(f"{asked}.")}
        if not hit:
            near = difflib.get_close_matches(asked, [layer.name for layer in everything], n=2, cutoff=0.4)
            hint = f"; did you mean {' or '.join(near)}?" if near else "; see the graph's initializers"
            raise ConfigError(f"the graph has no layer '{name}'{hint}")
        chosen |= hit
    return tuple(layer for layer in everything if layer.name in chosen)
