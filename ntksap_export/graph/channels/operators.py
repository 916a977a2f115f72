"""How each operator moves channels, other than the layers."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from ntksap_export.graph.analysis import Array
from ntksap_export.graph.channels.constants import is_float, one_place, run_once
from ntksap_export.graph.channels.follow import Channels
from ntksap_export.graph.channels.values import Numbers, Value
from ntksap_export.graph.passes.fold_batchnorm import is_inference
from ntksap_export.graph.shapes import Shape

_ROI_SINCE: Final = 11  # opset; before it, the scales of a Resize were its second input


def follow_map(channels: Channels, at: int) -> str | None:
    """One value in, one out, number by number."""
    node, index = channels.index.nodes[at], channels.index
    source = channels.value(node.input[0])
    if source is None:
        return "the shape of what it reads is not known"
    settings = [index.constant(name) if name else None for name in node.input[1:]]
    if any(name and value is None for name, value in zip(node.input[1:], settings, strict=True)):
        return "its settings are not constant"
    place = one_place(source.constant, len(channels.shape(node.input[0])), index.types[node.input[0]])
    constant = _known(source.constant, run_once(index, at, [place, *settings]))
    return _put(channels, at, Value(source.ids, constant))


def follow_same(channels: Channels, at: int) -> str | None:
    """Identity, Dropout in inference, Cast between floating types: the same numbers."""
    node, index = channels.index.nodes[at], channels.index
    if any(node.output[1:]):
        return "its second output is read"
    if node.op_type == "Dropout" and index.operand(at, 2):
        training = index.constant(index.operand(at, 2))
        if training is None or training.any():
            return "it is in training form"
    if node.op_type == "Cast" and not is_float(index.attribute(at, "to")):
        return "it casts to what is no floating type"
    source = channels.value(node.input[0])
    if source is None:
        return "the shape of what it reads is not known"
    constant = source.constant
    if node.op_type == "Cast":
        place = one_place(constant, 2, index.types[node.input[0]])
        constant = _known(constant, run_once(index, at, [place]))
    return _put(channels, at, Value(source.ids, constant))


def follow_sum(channels: Channels, at: int) -> str | None:
    """Sums, products and the like of values with the same channels, and of constants along them."""
    node, index = channels.index.nodes[at], channels.index
    shape = channels.shape(node.output[0])
    if len(shape) < 2 or not isinstance(shape[1], int):
        return "the shape of what it makes is not known"
    values, places, along = [], [], []
    for place, name in enumerate(node.input):
        array = index.constant(name)
        if array is not None:
            axis = array.ndim - len(shape) + 1
            if axis >= 0 and array.shape[axis] not in (1, shape[1]):
                return "a constant of it does not fit"
            if axis >= 0 and array.shape[axis] == shape[1]:
                along.append((at, place, axis))
            places.append(_flat(array, len(shape)))
            continue
        value = channels.value(name)
        if value is None or len(channels.shape(name)) != len(shape) or len(value.ids) != shape[1]:
            return "its operands do not have the same channels"
        values.append(value)
        places.append(one_place(value.constant, len(shape), index.types[name]))
    if not values:
        return "it reads no channels"
    channels.along += along
    ids = channels.classes.merge([value.ids for value in values])
    constant = np.broadcast_to(run_once(index, at, places), shape[1]).copy()
    constant[np.logical_or.reduce([np.broadcast_to(np.isnan(array.ravel()), shape[1]) for array in places])] = np.nan
    if node.op_type == "Mul":  # nothing is left of what 0 is multiplied with
        zero = np.logical_or.reduce([np.broadcast_to(array.ravel() == 0, shape[1]) for array in places])
        constant[zero] = 0
    return _put(channels, at, Value(ids, constant))


def follow_norm(channels: Channels, at: int) -> str | None:
    """BatchNormalization in inference form: a factor and a shift for each channel."""
    node, index = channels.index.nodes[at], channels.index
    source = channels.value(node.input[0])
    if source is None:
        return "the shape of what it reads is not known"
    if not is_inference(index, at):
        return "it is in training form"
    parts = [index.constant(name) for name in node.input[1:5]]
    if any(part is None or part.shape != source.ids.shape for part in parts):
        return "its parameters are not constant"
    gamma, beta, mean, variance = (np.asarray(part, np.float64) for part in parts)
    with np.errstate(all="ignore"):
        factor = gamma / np.sqrt(variance + index.attribute(at, "epsilon", 1e-5))
        start = np.where(gamma == 0, 0.0, source.constant)
        kind = one_place(source.constant, 2, index.types[node.input[0]]).dtype
        constant = ((start - mean) * factor + beta).astype(kind).astype(np.float64)
    channels.along += [(at, place, 0) for place in range(1, 5)]
    return _put(channels, at, Value(source.ids, np.where(np.isfinite(constant), constant, np.nan)))


def follow_pool(channels: Channels, at: int) -> str | None:
    """Pooling: a constant stays one where no window counts padding."""
    node, index = channels.index.nodes[at], channels.index
    if any(node.output[1:]):
        return "its indices are read"
    source = channels.value(node.input[0])
    if source is None:
        return "the shape of what it reads is not known"
    constant = source.constant
    padded = any(index.attribute(at, "pads", ())) or index.attribute(at, "auto_pad", "NOTSET").startswith("SAME")
    counts = node.op_type == "AveragePool" and index.attribute(at, "count_include_pad", 0) and padded
    if index.attribute(at, "ceil_mode", 0):
        constant = np.full_like(constant, np.nan)  # runtimes differ over a window that lies in the padding
        channels.lose(source.ids, source.constant, constant, f"{channels.title(at)} rounds its size up")
    elif counts:
        constant = np.where(constant == 0, 0.0, np.nan)
        channels.lose(source.ids, source.constant, constant, f"{channels.title(at)} counts padding")
    return _put(channels, at, Value(source.ids, constant))


def follow_reduction(channels: Channels, at: int) -> str | None:
    """The mean, the largest or the least over places; a sum only of zeros."""
    node, index = channels.index.nodes[at], channels.index
    source, rank = channels.value(node.input[0]), len(channels.shape(node.input[0]))
    axes = index.attribute(at, "axes")
    if index.operand(at, 1):
        axes = index.constant(node.input[1])
    if source is None or axes is None:
        return "its axes are not known"
    if not all(int(axis) % rank >= 2 for axis in axes) or len(axes) == 0:
        return "it does not go over places alone"
    constant = source.constant
    if node.op_type == "ReduceSum":
        constant = np.where(constant == 0, 0.0, np.nan)
        channels.lose(source.ids, source.constant, constant, f"{channels.title(at)} sums over places")
    return _put(channels, at, Value(source.ids, constant))


def follow_concat(channels: Channels, at: int) -> str | None:
    """Channels side by side."""
    node, index = channels.index.nodes[at], channels.index
    rank = len(channels.shape(node.output[0]))
    if rank < 2 or index.attribute(at, "axis") % rank != 1:
        return "it does not put channels side by side"
    values = [channels.value(name) for name in node.input]
    found = [value for value in values if value is not None]
    if len(found) < len(values):
        return "the shape of what it reads is not known"
    ids = np.concatenate([value.ids for value in found])
    return _put(channels, at, Value(ids, np.concatenate([value.constant for value in found])))


def follow_flatten(channels: Channels, at: int) -> str | None:
    """(N, C, H, W) -> (N, C H W): a channel becomes H W neighbours. Also axes of size 1 that come or go."""
    node = channels.index.nodes[at]
    source, before, after = channels.value(node.input[0]), channels.shape(node.input[0]), channels.shape(node.output[0])
    if source is None or len(after) < 2 or not isinstance(after[1], int):
        return "its shapes are not known"
    if node.op_type == "Flatten" and channels.index.attribute(at, "axis", 1) != 1:
        return "it does not keep the batch"
    if node.op_type == "Reshape" and channels.index.constant(channels.index.operand(at, 1)) is None:
        return "its shape is computed"
    if node.op_type in ("Reshape", "Squeeze", "Unsqueeze") and not _keeps_batch(channels, at):
        return "it does not keep the batch"
    channel, copies = len(source.ids), after[1] // max(len(source.ids), 1)
    if after[1] != channel * copies or _area(before) != copies * _area(after):
        return "it mixes channels and places"
    if copies != 1 and len(after) != 2:
        return "it mixes channels and places"
    if node.op_type == "Reshape":
        channels.reshapes.append(at)
    return _put(channels, at, Value(np.repeat(source.ids, copies), np.repeat(source.constant, copies)))


def follow_pad(channels: Channels, at: int) -> str | None:
    """Padding of places with a constant."""
    node, index = channels.index.nodes[at], channels.index
    source, rank = channels.value(node.input[0]), len(channels.shape(node.input[0]))
    pads = index.constant(index.operand(at, 1))
    fill = index.constant(index.operand(at, 2)) if index.operand(at, 2) else np.zeros(())
    if source is None or pads is None or fill is None or index.operand(at, 3) or len(pads) != 2 * rank:
        return "its settings are not followed"
    if index.attribute(at, "mode", "constant") != "constant" or any(pads[[0, 1, rank, rank + 1]]):
        return "it does not pad places with a constant"
    constant = np.where(source.constant == float(fill.ravel()[0]), source.constant, np.nan)
    constant = constant if (np.asarray(pads) > 0).any() else source.constant
    channels.lose(source.ids, source.constant, constant, f"{channels.title(at)} puts other numbers around it")
    return _put(channels, at, Value(source.ids, constant))


def follow_resize(channels: Channels, at: int) -> str | None:
    """Larger or smaller images: between equal numbers lies the same number, which rounding may move."""
    node, index = channels.index.nodes[at], channels.index
    source, rank = channels.value(node.input[0]), len(channels.shape(node.input[0]))
    if source is None:
        return "the shape of what it reads is not known"
    if index.attribute(at, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return "it puts another number where the image ends"
    axes = [int(axis) % rank for axis in index.attribute(at, "axes", range(rank))]
    if index.operand(at, 3):
        if min(axes, default=0) < 2:
            return "its sizes name the batch and the channels; with scales it would be followed"
    else:
        scales = index.constant(index.operand(at, 2 if index.opset >= _ROI_SINCE else 1))
        if scales is None or len(scales) != len(axes):
            return "its scales are not constant"
        if any(scale != 1 for axis, scale in zip(axes, scales, strict=True) if axis < 2):
            return "it does not resize places alone"
    constant = source.constant
    if index.attribute(at, "mode", "nearest") not in ("nearest", "linear"):
        constant = np.where(constant == 0, 0.0, np.nan)
        channels.lose(source.ids, source.constant, constant, f"{channels.title(at)} is cubic")
    return _put(channels, at, Value(source.ids, constant))


def _put(channels: Channels, at: int, value: Value) -> str | None:
    """Note what the node makes; nothing is against following it."""
    channels.values[channels.index.nodes[at].output[0]] = value
    return None


def _known(before: Numbers, after: Numbers) -> Numbers:
    constant: Numbers = np.where(np.isnan(before), np.nan, after)
    return constant


def _flat(array: Array, rank: int) -> Array:
    """A constant operand at one place, (1, C or 1, 1, ...); NaN where it differs from place to place."""
    full = array.reshape(*[1] * (rank - array.ndim), *array.shape)
    rows = np.moveaxis(full, 1, 0).reshape(full.shape[1], -1)
    same = (rows == rows[:, :1]).all(axis=1)
    return np.where(same, rows[:, 0], np.nan).astype(array.dtype).reshape(1, -1, *[1] * (rank - 2))


def _keeps_batch(channels: Channels, at: int) -> bool:
    """Whether the first axis, and the second's place, are left as they are."""
    node, index = channels.index.nodes[at], channels.index
    before, after = channels.shape(node.input[0]), channels.shape(node.output[0])
    if node.op_type != "Reshape":
        axes = index.attribute(at, "axes")
        if index.operand(at, 1):
            axes = index.constant(node.input[1])
        rank = max(len(before), len(after))
        return axes is not None and all(int(axis) % rank >= 2 for axis in axes)
    target = index.constant(index.operand(at, 1))
    if target is None or len(target) < 2:
        return False
    first, rest = int(target[0]), [int(side) for side in target[1:]]
    if first == 0 and not index.attribute(at, "allowzero", 0):
        return True
    # -1 is the batch if all else is as large as one image
    named = math.prod(rest) if all(side > 0 for side in rest) else 0
    image = len(channels.values[node.input[0]].ids) * _area(before)
    return (first == -1 and named == image > 0) or (isinstance(before[0], int) and first == before[0])


def _area(shape: Shape) -> int:
    """Places of a channel; 0 where it is not known."""
    return math.prod(side if isinstance(side, int) else 0 for side in shape[2:])
