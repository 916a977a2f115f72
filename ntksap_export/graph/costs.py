"""What each node of a graph has to do: multiply-accumulates, those that are not by a zero weight, its weight's bytes.

    Conv             weight (out, in / groups, kernel ...), used once per output position of each image
    ConvTranspose    weight (in, out / groups, kernel ...), used once per input position of each image
    Gemm, MatMul     (rows, inner) x (inner, columns): rows * inner * columns

Positions at a padded border count in full, as everywhere in the package. A multiply-accumulate is two FLOPs.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

import numpy as np

from ntksap_export.errors import ConfigError
from ntksap_export.graph.analysis import Array, Index
from ntksap_export.graph.model import Graph
from ntksap_export.graph.naming import module_of
from ntksap_export.graph.scopes import module_scopes

# op -> places of its data, its weight, and the weight's zero point
_PRODUCTS: Final = {
    "Conv": (0, 1, None),
    "ConvInteger": (0, 1, 3),
    "ConvTranspose": (0, 1, None),
    "Gemm": (0, 1, None),
    "MatMul": (0, 1, None),
    "MatMulInteger": (0, 1, 3),
    "QLinearConv": (0, 3, 5),
    "QLinearMatMul": (0, 3, 5),
}
# These multiply, too; how often cannot be told here.
_UNCOUNTED: Final = frozenset({"Attention", "DeformConv", "Einsum", "GRU", "If", "LSTM", "Loop", "RNN", "Scan"})
_THROUGH: Final = frozenset({"Cast", "DequantizeLinear", "QuantizeLinear", "Reshape", "Transpose", "Unsqueeze"})


@dataclass(frozen=True, slots=True)
class NodeCost:
    """One node of the outermost graph, for one call.

    Attributes:
        name: of the node, or of its first output where it has none.
        op_type: the operator.
        module: dotted name of the module whose weight it reads, or else in which it was traced (`graph.scopes`).
        macs: dense, for the whole batch; 0 for what multiplies nothing; None where it cannot be counted.
        nonzero_macs: those whose weight is not zero; all of them where no operand is constant.
        weight_bytes: of its constant operand, as stored.
        is_int8: whether the weight is stored in 8 bits.
        before: numbers of the nodes that make its inputs.
    """

    name: str
    op_type: str
    module: str | None
    macs: int | None
    nonzero_macs: int | None
    weight_bytes: int
    is_int8: bool
    before: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Weight:
    name: str
    size: int
    nonzero: int
    nbytes: int
    is_int8: bool


def node_costs(graph: Graph, images: Sequence[int]) -> tuple[NodeCost, ...]:
    """The nodes in order.

    Args:
        graph: with dense initializers.
        images: shape of the batch as the graph takes it, for instance (8, 3, 224, 224).

    Raises:
        ConfigError: the graph does not have one input of as many axes.
    """
    index = Index(_fed(graph, images).proto)
    return tuple(_cost(index, at, scope) for at, scope in enumerate(module_scopes(graph.proto)))


def _fed(graph: Graph, images: Sequence[int]) -> Graph:
    proto = copy.deepcopy(graph.proto)
    stored = {item.name for item in proto.graph.initializer}
    inputs = [item for item in proto.graph.input if item.name not in stored]
    axes = [item.type.tensor_type.shape.dim for item in inputs]
    if len(axes) != 1 or len(axes[0]) != len(images):
        raise ConfigError(f"the graph's inputs have {[len(each) for each in axes]} axes; the images {list(images)}")
    for axis, size in zip(axes[0], images, strict=True):
        axis.dim_value = size
    for value in proto.graph.output:  # may repeat the name of an axis that has a number now
        value.type.tensor_type.ClearField("shape")
    return Graph(proto, graph.parameters)


def _cost(index: Index, at: int, scope: str | None) -> NodeCost:
    node = index.nodes[at]
    weight, macs = None, 0 if index.is_standard(at) and node.op_type not in _UNCOUNTED else None
    if node.op_type in _PRODUCTS and index.is_standard(at):
        weight, macs = _operand(index, at), _macs(index, at)
    nonzero = macs
    if weight is not None and macs:
        nonzero = macs * weight.nonzero // weight.size  # exact: each weight is used equally often
    return NodeCost(
        name=node.name or node.output[0],
        op_type=node.op_type,
        module=(module_of(weight.name) if weight is not None else None) or scope,
        macs=macs,
        nonzero_macs=nonzero,
        weight_bytes=0 if weight is None else weight.nbytes,
        is_int8=weight is not None and weight.is_int8,
        before=tuple(maker for name in node.input if (maker := index.maker(name)) is not None),
    )


def _macs(index: Index, at: int) -> int | None:
    node = index.nodes[at]
    data, weight, _ = _PRODUCTS[node.op_type]
    given, factor, made = (_sizes(index, name) for name in (node.input[data], node.input[weight], node.output[0]))
    if node.op_type == "Gemm":
        inner = None if given is None else given[0 if index.attribute(at, "transA", 0) else 1]
        return None if inner is None or made is None else prod(made) * inner
    if "MatMul" in node.op_type:
        return None if given is None or made is None else prod(made) * given[-1]
    if factor is None:
        return None
    if node.op_type == "ConvTranspose":
        return None if given is None else prod(factor) * prod(given) // given[1]
    return None if made is None else prod(factor) * prod(made) // made[1]


def _sizes(index: Index, name: str) -> tuple[int, ...] | None:
    if (value := index.constant(name)) is not None:
        return tuple(value.shape)
    axes = index.shapes.get(name)
    if axes is None or not all(isinstance(axis, int) for axis in axes):
        return None
    return tuple(axis for axis in axes if isinstance(axis, int))


def _operand(index: Index, at: int) -> _Weight | None:
    """The constant factor of a product: mostly the second."""
    node = index.nodes[at]
    data, weight, zero = _PRODUCTS[node.op_type]
    if (found := _weight(index, node.input[weight])) is None:
        return _weight(index, node.input[data]) if "MatMul" in node.op_type or node.op_type == "Gemm" else None
    if zero is None or not index.operand(at, zero):
        return found
    value, point = index.constant(found.name), index.constant(index.operand(at, zero))
    return found if value is None else _counted(found.name, value, point, -1 if "Mat" in node.op_type else 0)


def _weight(index: Index, name: str) -> _Weight | None:
    """The stored values behind `name`, through nodes that keep their zeros."""
    if (value := index.constant(name)) is not None:
        return _counted(name, value)
    at = index.maker(name)
    if at is None or not index.is_standard(at) or index.nodes[at].op_type not in _THROUGH:
        return None
    node = index.nodes[at]
    value = index.constant(node.input[0])
    if node.op_type != "DequantizeLinear" or value is None:
        return _weight(index, node.input[0])
    point = index.constant(index.operand(at, 2)) if index.operand(at, 2) else None
    return _counted(node.input[0], value, point, index.attribute(at, "axis", 1))


def _counted(name: str, value: Array, point: Array | None = None, axis: int = 0) -> _Weight:
    """`point`: what stands for zero; one number, or one for each place on `axis`."""
    if point is not None and point.size > 1:
        point = np.expand_dims(point, [other for other in range(value.ndim) if other != axis % value.ndim])
    different = value if point is None else value != point
    return _Weight(name, value.size, int(np.count_nonzero(different)), value.nbytes, value.dtype.itemsize == 1)
