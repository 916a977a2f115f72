"""Merge each BatchNormalization into the Conv, ConvTranspose or Gemm before it.

    s  = gamma / sqrt(var + epsilon)
    W' = W * s        along the output channels
    b' = (b - mean) * s + beta

In inference form only: the mean and the variance are the stored ones. Computed in float64 and rounded once; zeros of W
stay zeros. A norm is left where what is before it is something else, or is read by others, too, where a parameter is
not constant, and in training form.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
from onnx import helper

from ntksap_export.graph.analysis import FLOATS, Array, Index
from ntksap_export.graph.passes.outcome import Left, Outcome

_LAYERS: Final = ("Conv", "ConvTranspose", "Gemm")
_TRAINING_ATTRIBUTE_SINCE: Final = 14  # opset; before it, outputs beyond the first say that it is training


def apply_(proto: onnx.ModelProto) -> Outcome:
    """Fold what can be folded, in place."""
    index = Index(proto)
    rows, left = [], []
    for at, node in enumerate(index.nodes):
        if node.op_type != "BatchNormalization" or not index.is_standard(at):
            continue
        before = index.maker(node.input[0])
        if reason := _refusal(index, at, before):
            left.append(Left(f"BatchNormalization '{node.name or node.output[0]}'", reason))
            continue
        assert before is not None
        _fold(index, before, at)
        rows.append({"layer": index.nodes[before].input[1], "norm": node.name or node.output[0]})
    index.sweep()
    return Outcome(f"{len(rows)} folded, {len(left)} left", tuple(rows), tuple(left))


def is_inference(index: Index, at: int) -> bool:
    """Whether a BatchNormalization uses its stored statistics and nothing reads what training would give out."""
    node = index.nodes[at]
    training = index.opset >= _TRAINING_ATTRIBUTE_SINCE and index.attribute(at, "training_mode", 0)
    return not training and not any(node.output[1:]) and index.attribute(at, "spatial", 1) == 1


def _refusal(index: Index, at: int, before: int | None) -> str | None:
    node = index.nodes[at]
    if before is None or not index.is_standard(before) or index.nodes[before].op_type not in _LAYERS:
        return "there is no Conv, ConvTranspose or Gemm before it"
    if not is_inference(index, at):
        return "it is in training form"
    if len(index.readers(node.input[0])) > 1 or index.is_seen(node.input[0]):
        return f"'{node.input[0]}' is read elsewhere, too"
    constants = [*node.input[1:5], *(name for name in index.nodes[before].input[1:] if name)]
    for name in constants:
        if (value := index.constant(name)) is None:
            return index.why_not_constant(name)
        if helper.np_dtype_to_tensor_dtype(value.dtype) not in FLOATS:
            return f"'{name}' is {value.dtype}"
    gamma, beta, mean, scale = _norm(index, at)
    if not all(np.isfinite(part).all() for part in (gamma, beta, mean, scale)):
        return "its parameters give numbers that are not finite"
    return _misfit(index, before, len(scale))


def _misfit(index: Index, before: int, channels: int) -> str | None:
    bias = _bias(index, before)
    if bias is not None and bias.shape not in ((channels,), (1, channels), (1, 1), (1,), ()):  # (N, 1) is one per row
        return "the bias before it is not one number for each channel"
    return None


def _norm(index: Index, at: int) -> tuple[Array, Array, Array, Array]:
    """gamma, beta, mean and s, in float64."""
    gamma, beta, mean, variance = (_wide(index, name) for name in index.nodes[at].input[1:5])
    epsilon = index.attribute(at, "epsilon", 1e-5)
    with np.errstate(all="ignore"):
        return gamma, beta, mean, gamma / np.sqrt(variance + epsilon)


def _wide(index: Index, name: str) -> Array:
    value = index.constant(name)
    assert value is not None
    return value.astype(np.float64)


def _bias(index: Index, at: int) -> Array | None:
    name = index.operand(at, 2)
    return _wide(index, name) if name else None


def _fold(index: Index, before: int, at: int) -> None:
    layer = index.nodes[before]
    _, beta, mean, scale = _norm(index, at)
    weight = index.constant(layer.input[1])
    assert weight is not None
    bias = _bias(index, before)
    old = np.zeros(1) if bias is None else bias.ravel()
    if layer.op_type == "Gemm":
        old = old * index.attribute(before, "beta", 1.0)
        _set_float(layer, "beta", 1.0)
        columns = scale if not index.attribute(before, "transB", 0) else scale[:, None]
    elif layer.op_type == "Conv":
        columns = scale.reshape(-1, *[1] * (weight.ndim - 1))  # (out, in / groups, kernel ...)
    else:
        columns = _transposed_columns(weight, scale, index.attribute(before, "group", 1))
    scaled = (weight.astype(np.float64) * columns).astype(weight.dtype)
    index.write(before, 1, np.where(weight == 0, weight.dtype.type(0), scaled))
    index.write(before, 2, ((old - mean) * scale + beta).astype(weight.dtype))
    index.bypass(at, layer.output[0])


def _transposed_columns(weight: Array, scale: Array, groups: int) -> Array:
    """S along the outputs of a ConvTranspose weight (in, out / groups, kernel ...): its inputs are split in groups."""
    each = weight.shape[0] // groups
    parts = scale.reshape(groups, weight.shape[1])
    return np.repeat(parts, each, axis=0).reshape(*weight.shape[:2], *[1] * (weight.ndim - 2))


def _set_float(node: onnx.NodeProto, name: str, value: float) -> None:
    for item in node.attribute:
        if item.name == name:
            item.f = value
            return
