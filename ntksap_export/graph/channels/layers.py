"""Conv, ConvTranspose, Gemm and MatMul as one thing: a matrix from input channels to output channels, tap by tap.

    y_o = b_o + sum over i and taps t of W[o, i, t] * x_i(at t)

A tap that falls on zero padding reads 0 in place of x. An input channel that is the same number k everywhere adds
k * sum_t W[o, i, t] to y_o, everywhere, only if no tap with weight ever falls on padding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from onnx import helper

from ntksap_export.graph.analysis import FLOATS, Array, Index

CONVOLUTIONS: Final = ("Conv", "ConvTranspose")
LAYERS: Final = (*CONVOLUTIONS, "Gemm", "MatMul")


@dataclass(frozen=True, slots=True)
class Layer:
    """One such node.

    Attributes:
        at: the node.
        name: of its weight.
        source, target: the value it reads and the one it makes.
        weight: (out, in / groups, taps), of the graph's own type.
        bias: (out,), float64; zeros where there is none.
        groups: of a grouped convolution; input channels and output channels are split alike.
        read: (out, in / groups), where any weight is not zero.
        read_at_border: the same, of the taps that may fall on padding (or, transposed, may be missing in a sum).
        sums: (out, in / groups), weights summed over their taps.
        macs: multiply-adds for one image, dense; None where the size of the output is not known.
    """

    at: int
    name: str
    source: str
    target: str
    weight: Array
    bias: npt.NDArray[np.float64]
    groups: int
    read: npt.NDArray[np.bool_]
    read_at_border: npt.NDArray[np.bool_]
    sums: npt.NDArray[np.float64]
    macs: int | None

    @property
    def parameters(self) -> int:
        """Weights and biases, zeros included."""
        return int(self.weight.size + self.bias.size)


def read_layer(index: Index, at: int) -> Layer | str:
    """The layer that a node is, or why it cannot be followed."""
    node = index.nodes[at]
    weight = index.constant(index.operand(at, 1))
    if weight is None:
        return f"its weight {index.why_not_constant(index.operand(at, 1))}"
    if helper.np_dtype_to_tensor_dtype(weight.dtype) not in FLOATS:
        return f"its weight is {weight.dtype}"
    groups = index.attribute(at, "group", 1) if node.op_type.startswith("Conv") else 1
    matrix = _matrix(index, at, weight)
    if isinstance(matrix, str):
        return matrix
    if node.op_type == "ConvTranspose" and groups != 1:
        return "it is transposed and has groups"
    bias = _bias(index, at, len(matrix))
    if isinstance(bias, str):
        return bias
    border = _border(index, at, weight.shape) if node.op_type.startswith("Conv") else np.zeros(1, bool)
    return Layer(
        at=at,
        name=index.operand(at, 1),
        source=node.input[0],
        target=node.output[0],
        weight=matrix,
        bias=bias,
        groups=groups,
        read=(matrix != 0).any(axis=2),
        read_at_border=(matrix[:, :, border] != 0).any(axis=2),
        sums=matrix.sum(axis=2, dtype=np.float64),
        macs=_macs(index, at, matrix),
    )


def _macs(index: Index, at: int, matrix: Array) -> int | None:
    node = index.nodes[at]
    # a transposed convolution multiplies each place of its input with all of its kernel
    shape = index.shapes.get(node.input[0] if node.op_type == "ConvTranspose" else node.output[0], (None,))
    places = shape[2:] if len(shape) >= 2 else (None,)
    return int(matrix.size) * math.prod(int(side or 0) for side in places) if all(map(_is_int, places)) else None


def _is_int(side: int | str | None) -> bool:
    return isinstance(side, int)


def _taps(index: Index, at: int, weight: Array) -> Array:
    """A weight as (out, in / groups, taps)."""
    kind = index.nodes[at].op_type
    if kind == "Conv":
        return weight.reshape(*weight.shape[:2], -1)
    if kind == "ConvTranspose":
        return np.swapaxes(weight.reshape(*weight.shape[:2], -1), 0, 1)
    return (weight if kind == "Gemm" and index.attribute(at, "transB", 0) else weight.T)[:, :, None]


def axes_of(index: Index, at: int) -> tuple[int, int]:
    """The axes of a weight that its outputs and its inputs are on."""
    kind = index.nodes[at].op_type
    outputs_first = kind == "Conv" or (kind == "Gemm" and bool(index.attribute(at, "transB", 0)))
    return (0, 1) if outputs_first else (1, 0)


def _matrix(index: Index, at: int, weight: Array) -> Array | str:
    node = index.nodes[at]
    if node.op_type in ("Gemm", "MatMul"):
        if weight.ndim != 2 or len(index.shapes.get(node.input[0], ())) != 2:
            return "it is not a product of two matrices"
        if node.op_type == "Gemm" and index.attribute(at, "transA", 0):
            return "it is transposed over the batch"
        if any(index.attribute(at, name, 1.0) != 1.0 for name in ("alpha", "beta")):
            return "its alpha or beta is not 1"
    elif weight.ndim < 3:
        return "its weight has no kernel"
    return _taps(index, at, weight)


def _bias(index: Index, at: int, outputs: int) -> npt.NDArray[np.float64] | str:
    name = index.operand(at, 2)
    if not name:
        return np.zeros(outputs)
    value = index.constant(name)
    if value is None:
        return f"its bias {index.why_not_constant(name)}"
    if value.shape not in ((outputs,), (1, outputs), (1,), ()):
        return "its bias is not one number for each output"
    return np.broadcast_to(value.astype(np.float64).ravel(), (outputs,)).copy()


def _border(index: Index, at: int, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    kernel = shape[2:]
    if index.nodes[at].op_type == "ConvTranspose":  # which taps meet differs from place to place
        return np.ones(math.prod(kernel), bool)
    rank = len(kernel)
    pads = list(index.attribute(at, "pads", [0] * (2 * rank)))
    dilations = index.attribute(at, "dilations", [1] * rank)
    strides = index.attribute(at, "strides", [1] * rank)
    auto = index.attribute(at, "auto_pad", "NOTSET")
    sides = index.shapes.get(index.nodes[at].input[0], ())[2:]
    axes = []
    for axis, size in enumerate(kernel):
        begin, end = (0, 0) if auto == "VALID" else (pads[axis], pads[rank + axis])
        if auto.startswith("SAME"):  # how much depends on the image: at most the kernel's reach on either side
            begin = end = dilations[axis] * (size - 1)
        side = sides[axis] if axis < len(sides) and not auto.startswith("SAME") else None
        axes.append(
            _touching(size, dilations[axis], strides[axis], begin, end, side if isinstance(side, int) else None)
        )
    grid = np.meshgrid(*axes, indexing="ij")
    found: npt.NDArray[np.bool_] = np.logical_or.reduce(grid).ravel()
    return found


def _touching(size: int, dilation: int, stride: int, begin: int, end: int, side: int | None) -> npt.NDArray[np.bool_]:
    """(taps of one axis,): whether a tap falls outside the image at any place; `side` None is any size."""
    reach = dilation * np.arange(size)
    last = 0 if side is None else (side + begin + end - reach[-1] - 1) // stride * stride
    # the farthest that the window's beginning gets, from the image's end, counted in places inside the padding
    beyond = end - reach[-1] + reach > 0 if side is None else last - begin + reach >= side
    found: npt.NDArray[np.bool_] = (reach < begin) | beyond
    return found
