"""Convolutions, products by constant matrices, and norms."""

from __future__ import annotations

import dataclasses

import numpy as np

from ntksap_export.engine.look import Look
from ntksap_export.engine.lower_windows import out_size, window_of
from ntksap_export.engine.operators import Array, Tensor, Window
from ntksap_export.engine.steps import Step, UncoveredError
from ntksap_export.graph.passes.fold_batchnorm import is_inference


def conv(look: Look, at: int) -> Step:
    """Conv of two dimensions with a constant weight."""
    node = look.index.nodes[at]
    kernel = look.needed(node.input[1])
    if kernel.ndim != 4:
        raise UncoveredError(f"only two-dimensional convolutions are covered; its weight has {kernel.ndim} axes")
    given = look.tensor(node.input[0])
    groups = look.attribute(at, "group", 1)
    if given.rank != 4 or groups < 1 or kernel.shape[1] * groups != given.channels or kernel.shape[0] % groups:
        raise UncoveredError(f"its weight {kernel.shape} in {groups} groups does not fit {given.channels} channels")
    bias = _bias(look, at, kernel.shape[0])
    window = window_of(look, at, given, kernel.shape[2:])
    height, width = out_size(window, given)
    window = dataclasses.replace(window, bottom=0, right=0)
    made = Tensor(kernel.shape[0], height, width)
    if not reaches(window, given, made):
        raise UncoveredError("its padding goes further than its kernel")
    return Step(
        "conv", [node.input[0]], node.output[0], given, made,
        window=window, kernel=kernel, groups=groups, bias=bias, weighted=True,
    )  # fmt: skip


def reaches(window: Window, given: Tensor, made: Tensor) -> bool:
    """Whether the padding is nowhere wider than the kernel reaches, which is the plan's limit."""
    if window.top > window.reach[0] or window.left > window.reach[1]:
        return False
    down = (made.height - 1) * window.sh <= given.height + window.top
    return down and (made.width - 1) * window.sw <= given.width + window.left


def gemm(look: Look, at: int) -> Step:
    """Gemm whose second factor is constant."""
    node = look.index.nodes[at]
    if look.attribute(at, "transA", 0):
        raise UncoveredError("its first factor is transposed")
    matrix = look.needed(node.input[1])
    rows = matrix if look.attribute(at, "transB", 0) else matrix.T
    given = _row(look, node.input[0], rows)
    alpha = look.attribute(at, "alpha", 1.0)
    if alpha != 1.0:
        rows = (rows.astype(np.float64) * alpha).astype(np.float32)
    bias = None
    if look.operand(at, 2):
        stored = look.needed(node.input[2])
        if stored.shape not in ((), (1,), (1, 1), (len(rows),), (1, len(rows))):
            raise UncoveredError(f"its bias {stored.shape} is not one number for each output")
        wide = stored.astype(np.float64).ravel() * look.attribute(at, "beta", 1.0)
        bias = np.broadcast_to(wide, (len(rows),)).copy()
    return _product(look, at, given, rows, bias)


def matmul(look: Look, at: int) -> Step:
    """MatMul of rows and a constant."""
    node = look.index.nodes[at]
    matrix = look.needed(node.input[1])
    if matrix.ndim != 2:
        raise UncoveredError(f"its second factor has {matrix.ndim} axes, not 2")
    return _product(look, at, _row(look, node.input[0], matrix.T), matrix.T, None)


def batch_norm(look: Look, at: int) -> Step:
    """BatchNormalization with its stored statistics: gamma * (x - mean) / sqrt(variance + epsilon) + beta."""
    node = look.index.nodes[at]
    given = look.tensor(node.input[0])
    if not is_inference(look.index, at):
        raise UncoveredError("it is in training form")
    gamma, beta, mean, variance = (look.needed(name).astype(np.float64) for name in node.input[1:5])
    with np.errstate(all="ignore"):
        factor = gamma / np.sqrt(variance + look.attribute(at, "epsilon", 1e-5))
    return scale(look, at, node.input[0], factor, beta - mean * factor, given)


def scale(look: Look, at: int, name: str, factor: Array, shift: Array, given: Tensor) -> Step:
    """A factor and a shift for each channel of `name`, both (C,)."""
    if factor.shape != (given.channels,) or shift.shape != (given.channels,):
        raise UncoveredError(f"its parameters do not fit {given.channels} channels")
    if not (np.isfinite(factor).all() and np.isfinite(shift).all()):
        raise UncoveredError("its parameters give numbers that are not finite")
    output = look.index.nodes[at].output[0]
    return Step("scale", [name], output, given, given, factor=factor, shift=shift)


def _bias(look: Look, at: int, rows: int) -> Array | None:
    if not (name := look.operand(at, 2)):
        return None
    bias = look.needed(name)
    if bias.shape != (rows,):
        raise UncoveredError(f"its bias {bias.shape} does not fit {rows} outputs")
    return bias.astype(np.float64)


def _row(look: Look, name: str, rows: Array) -> Tensor:
    given = look.tensor(name)
    if given.rank != 2 or rows.ndim != 2 or rows.shape[1] != given.channels:
        raise UncoveredError(f"its factors have the shapes {_plain(given)} and {rows.T.shape}")
    return given


def _product(look: Look, at: int, given: Tensor, rows: Array, bias: Array | None) -> Step:
    node = look.index.nodes[at]
    kernel = rows[:, :, None, None]  # (out, in, 1, 1)
    made = Tensor(len(rows), rank=2)
    return Step("conv", [node.input[0]], node.output[0], given, made, kernel=kernel, bias=bias, weighted=True)


def _plain(tensor: Tensor) -> tuple[int | str, ...]:
    return ("N", tensor.channels, tensor.height, tensor.width)[: tensor.rank]
