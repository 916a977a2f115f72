"""What a plan means, written plainly: numpy, float64, one operator after the other. Slow on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ntksap_export.engine.operators import (
    Act,
    Activate,
    Activation,
    Add,
    Concat,
    Conv,
    Flatten,
    GlobalPool,
    Mul,
    Operator,
    Plan,
    Pool,
    PoolMode,
    Tensor,
    Window,
)
from ntksap_export.engine.plan_reader import plan_from_bytes

Array = npt.NDArray[Any]


def run_plan(plan: Plan | bytes, inputs: Sequence[Array]) -> list[Array]:
    """The outputs, float64, (N, C, H, W) or (N, C) as the plan says."""
    if isinstance(plan, bytes):
        plan = plan_from_bytes(plan)
    values: dict[int, Array] = {}
    for number, value in zip(plan.inputs, inputs, strict=True):
        values[number] = _shaped(value.astype(np.float64), plan.tensors[number])
    for operator in plan.operators:
        values[operator.output] = apply(operator, plan, [values[number] for number in operator.inputs])
    return [_outward(values[number], plan.tensors[number]) for number in plan.outputs]


def apply(operator: Operator, plan: Plan, given: list[Array]) -> Array:
    """One operator; values are (N, C, H, W), of rank 2 too."""
    made, first = plan.tensors[operator.output], given[0]
    match operator:
        case Conv():
            total = convolve(first, operator.weights.dense().astype(np.float64), operator.window, made)
            if operator.bias is not None:
                total += operator.bias.astype(np.float64)[:, None, None]
            return activate(total + given[1] if len(given) == 2 else total, operator.activation)
        case Pool():
            return pool(first, operator.window, operator.mode, made)
        case GlobalPool():
            reduced = first.max((2, 3)) if operator.mode is PoolMode.MAX else first.mean((2, 3))
            return reduced[:, :, None, None]
        case Add():
            return activate(first + given[1], operator.activation)
        case Mul():
            return activate(first * given[1], operator.activation)
        case Concat():
            return np.concatenate(given, axis=1)
        case Activate():
            return activate(first, operator.activation)
        case Flatten():
            return first.reshape(len(first), -1, 1, 1)


def convolve(x: Array, matrix: Array, window: Window, made: Tensor) -> Array:
    """Sum over the kernel's positions of W[:, :, ky, kx] times what they see."""
    kernel = matrix.reshape(len(matrix), x.shape[1], window.kh, window.kw)
    plane = _padded(x, window, made, 0.0)
    total = np.zeros((len(x), made.channels, made.height, made.width))
    for ky in range(window.kh):
        for kx in range(window.kw):
            seen = _seen(plane, window, made, ky, kx)
            total += np.tensordot(kernel[:, :, ky, kx], seen, (1, 1)).transpose(1, 0, 2, 3)
    return total


def pool(x: Array, window: Window, mode: PoolMode, made: Tensor) -> Array:
    """The largest of what lies inside, or its mean; or the mean over what lies in the padded plane."""
    largest = np.full((len(x), made.channels, made.height, made.width), -np.inf)
    total, count = np.zeros_like(largest), np.zeros_like(largest)
    ones = np.ones_like(x)
    if mode is PoolMode.AVERAGE_PADDED:
        sides = ((0, 0), (0, 0), (window.top, window.bottom), (window.left, window.right))
        x, ones = np.pad(x, sides), np.pad(ones, sides, constant_values=1)
        window = Window(window.kh, window.kw, window.sh, window.sw, window.dh, window.dw)
    low, plane, there = (_padded(value, window, made, fill) for value, fill in ((x, -np.inf), (x, 0.0), (ones, 0.0)))
    for ky in range(window.kh):
        for kx in range(window.kw):
            largest = np.maximum(largest, _seen(low, window, made, ky, kx))
            total += _seen(plane, window, made, ky, kx)
            count += _seen(there, window, made, ky, kx)
    return largest if mode is PoolMode.MAX else total / count


def activate(x: Array, activation: Activation) -> Array:
    """The activation's formula."""
    a, b = (float(np.float32(number)) for number in (activation.a, activation.b))
    sigmoid = 0.5 * (1 + np.tanh(x / 2))
    match activation.act:
        case Act.NONE:
            return x
        case Act.RELU:
            return np.maximum(x, 0)
        case Act.CLIP:
            return np.minimum(np.maximum(x, a), b)
        case Act.LEAKY_RELU:
            return np.where(x < 0, a * x, x)
        case Act.HARD_SIGMOID:
            return np.clip(a * x + b, 0, 1)
        case Act.HARD_SWISH:
            return x * np.clip(x / 6 + 0.5, 0, 1)
        case Act.SIGMOID:
            return sigmoid
        case Act.SILU:
            return x * sigmoid
        case Act.TANH:
            return np.tanh(x)
        case Act.ELU:
            return np.where(x < 0, a * np.expm1(np.minimum(x, 0)), x)


def _padded(x: Array, window: Window, made: Tensor, fill: float) -> Array:
    """The plane with enough around it for every window."""
    down = (made.height - 1) * window.sh + window.reach[0] - window.top - x.shape[2]
    right = (made.width - 1) * window.sw + window.reach[1] - window.left - x.shape[3]
    sides = ((0, 0), (0, 0), (window.top, max(down, 0)), (window.left, max(right, 0)))
    return np.pad(x, sides, constant_values=fill)


def _seen(plane: Array, window: Window, made: Tensor, ky: int, kx: int) -> Array:
    """What one position of the kernel sees from each output."""
    top, left = ky * window.dh, kx * window.dw
    rows = slice(top, top + (made.height - 1) * window.sh + 1, window.sh)
    return plane[:, :, rows, left : left + (made.width - 1) * window.sw + 1 : window.sw]


def _shaped(value: Array, tensor: Tensor) -> Array:
    assert value.shape[1:] == ((tensor.channels, tensor.height, tensor.width)[: tensor.rank - 1])
    return value.reshape(len(value), tensor.channels, tensor.height, tensor.width)


def _outward(value: Array, tensor: Tensor) -> Array:
    assert value.shape[1:] == (tensor.channels, tensor.height, tensor.width)
    return value if tensor.rank == 4 else value[:, :, 0, 0]
