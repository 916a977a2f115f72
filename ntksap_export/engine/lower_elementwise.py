"""Sums and products, of two values or with constants, and activations."""

from __future__ import annotations

import numpy as np

from ntksap_export.engine.look import Batch, Look
from ntksap_export.engine.lower_products import scale
from ntksap_export.engine.operators import Act, Activation, Array, Tensor
from ntksap_export.engine.steps import Kind, Step, UncoveredError


def add(look: Look, at: int) -> Step:
    """Add of two values of one shape, or of a value and a number for each channel."""
    if (found := _with_constant(look, at)) is not None:
        name, value, _ = found
        return scale(look, at, name, np.ones_like(value), value, look.tensor(name))
    return _joined(look, at, "add")


def sub(look: Look, at: int) -> Step:
    """Sub with a constant on either side."""
    name, value, flipped = _one_constant(look, at)
    sign = -1.0 if flipped else 1.0
    return scale(look, at, name, np.full_like(value, sign), -sign * value, look.tensor(name))


def mul(look: Look, at: int) -> Step:
    """Mul of two values, the second of which may have one number for each channel, or with a constant."""
    if (found := _with_constant(look, at)) is not None:
        name, value, _ = found
        return scale(look, at, name, value, np.zeros_like(value), look.tensor(name))
    return _joined(look, at, "mul")


def div(look: Look, at: int) -> Step:
    """Div by a constant."""
    name, value, flipped = _one_constant(look, at)
    if flipped:
        raise UncoveredError("it divides by a value that is not constant")
    with np.errstate(all="ignore"):
        return scale(look, at, name, 1 / value, np.zeros_like(value), look.tensor(name))


def neg(look: Look, at: int) -> Step:
    """Neg."""
    name = look.operand(at, 0)
    given = look.tensor(name)
    return scale(look, at, name, np.full(given.channels, -1.0), np.zeros(given.channels), given)


def act(look: Look, at: int) -> Step:
    """One of the activations, with its numbers where it has any."""
    name = look.operand(at, 0)
    given = look.tensor(name)
    return Step("act", [name], look.index.nodes[at].output[0], given, given, activation=_activation(look, at))


def _activation(look: Look, at: int) -> Activation:
    match look.index.nodes[at].op_type:
        case "Clip":
            return _clip(look, at)
        case "LeakyRelu":
            return Activation(Act.LEAKY_RELU, look.attribute(at, "alpha", 0.01))
        case "PRelu":
            return Activation(Act.LEAKY_RELU, _number(look.needed(look.operand(at, 1)), "slope"))
        case "HardSigmoid":
            return Activation(Act.HARD_SIGMOID, look.attribute(at, "alpha", 0.2), look.attribute(at, "beta", 0.5))
        case "Elu":
            return Activation(Act.ELU, look.attribute(at, "alpha", 1.0))
        case "Swish" if look.attribute(at, "alpha", 1.0) != 1.0:
            raise UncoveredError("its alpha is not 1")
        case name:
            plain = {
                "Relu": Act.RELU, "HardSwish": Act.HARD_SWISH, "Sigmoid": Act.SIGMOID, "Tanh": Act.TANH,
                "Swish": Act.SILU,
            }  # fmt: skip
            return Activation(plain[name])


def _clip(look: Look, at: int) -> Activation:
    most = float(np.finfo(np.float32).max)
    ends = [look.attribute(at, "min", -most), look.attribute(at, "max", most)]  # attributes below opset 11
    for place in (0, 1):
        if name := look.operand(at, place + 1):
            ends[place] = _number(look.needed(name), "limit")
    if ends[0] == 0 and ends[1] >= most:
        return Activation(Act.RELU)
    return Activation(Act.CLIP, *ends)


def _number(value: Array, what: str) -> float:
    if value.size != 1 or np.isnan(value).any():
        raise UncoveredError(f"its {what} is not one number")
    return float(value.item())


def _with_constant(look: Look, at: int) -> tuple[str, Array, bool] | None:
    """Of two operands the value's name, the constant as float64 (C,), and whether the constant is the first."""
    names = look.operand(at, 0), look.operand(at, 1)
    for place in (1, 0):
        value = look.constant(names[place])
        if value is not None:
            other = names[1 - place]
            return other, per_channel(value, look.tensor(other)), place == 0
    return None


def _one_constant(look: Look, at: int) -> tuple[str, Array, bool]:
    found = _with_constant(look, at)
    if found is None:
        raise UncoveredError("neither of its operands is constant")
    return found


def per_channel(value: Array, given: Tensor) -> Array:
    """A constant that is broadcast to `given`, as float64 (C,); refuses the node where it differs inside a plane."""
    shape = (1,) * (given.rank - value.ndim) + value.shape
    others = [size for axis, size in enumerate(shape) if axis != 1]
    if len(shape) != given.rank or any(size != 1 for size in others) or shape[1] not in (1, given.channels):
        raise UncoveredError(f"its constant {value.shape} is not one number, nor one for each channel")
    return np.broadcast_to(value.astype(np.float64).ravel(), (given.channels,)).copy()


def _joined(look: Look, at: int, kind: Kind) -> Step:
    node = look.index.nodes[at]
    if len(node.input) != 2:
        raise UncoveredError(f"it has {len(node.input)} operands")
    first, second = node.input[0], node.input[1]
    if kind == "mul" and _narrow(look.tensor(first)) and not _narrow(look.tensor(second)):
        first, second = second, first
    wide, other = look.tensor(first), look.tensor(second)
    each = Tensor(wide.channels, 1, 1, wide.rank)
    if other != wide and (kind != "mul" or other != each):
        raise UncoveredError(f"its operands have the shapes {_sizes(wide)} and {_sizes(other)}")
    check_batches(look.batch(first), look.batch(second))
    return Step(kind, [first, second], node.output[0], wide, wide)


def check_batches(*batches: Batch) -> None:
    """Refuse a node that may spread one image's values over the batch."""
    if len(set(batches)) > 1 and 1 in batches:
        raise UncoveredError("one operand has a batch of 1 and another may not")


def _narrow(tensor: Tensor) -> bool:
    return tensor.height == tensor.width == 1


def _sizes(tensor: Tensor) -> str:
    return str((tensor.channels, tensor.height, tensor.width)[: tensor.rank - 1])
