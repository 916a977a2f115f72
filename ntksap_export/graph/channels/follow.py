"""What is known of the channels of a graph, and how layers move them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ntksap_export.graph.analysis import Index
from ntksap_export.graph.channels.constants import is_float
from ntksap_export.graph.channels.layers import CONVOLUTIONS, Layer, read_layer
from ntksap_export.graph.channels.values import Classes, Ids, Numbers, Value
from ntksap_export.graph.shapes import Shape


@dataclass(slots=True)
class Channels:
    """What was found.

    Attributes:
        index: of the model.
        classes: of all channels.
        values: name -> value, for those that are followed.
        layers: in the order of the graph.
        along: (node, place, axis) of constants that run along the channels of the node's first output.
        reshapes: nodes whose constant shape names a number of channels.
        pinned: (ids, reason) of channels that must stay.
        lost: id -> why a constant was one no further.
        strange: convolution -> why it is no layer that can be followed.
    """

    index: Index
    classes: Classes = field(default_factory=Classes)
    values: dict[str, Value] = field(default_factory=dict)
    layers: list[Layer] = field(default_factory=list)
    along: list[tuple[int, int, int]] = field(default_factory=list)
    reshapes: list[int] = field(default_factory=list)
    pinned: list[tuple[Ids, str]] = field(default_factory=list)
    lost: dict[int, str] = field(default_factory=dict)
    strange: dict[int, str] = field(default_factory=dict)

    def value(self, name: str) -> Value | None:
        """The value; one that is not followed has all its channels pinned; None where their number is not known."""
        if name not in self.values:
            shape = self.shape(name)
            if len(shape) < 2 or not isinstance(shape[1], int) or not is_float(self.index.types[name]):
                return None
            ids = self.classes.make(shape[1])
            self.pinned.append((ids, f"'{name}' is an input, or made by what is not followed"))
            self.values[name] = Value(ids, np.full(shape[1], np.nan))
        return self.values[name]

    def shape(self, name: str) -> Shape:
        """Its axes; () where nothing is known."""
        return self.index.shapes.get(name, ())

    def lose(self, ids: Ids, before: Numbers, after: Numbers, why: str) -> None:
        """Note why constants ended here."""
        for item in ids[~np.isnan(before) & np.isnan(after)].tolist():
            self.lost.setdefault(item, why)

    def title(self, at: int) -> str:
        """How a node is called in a reason."""
        node = self.index.nodes[at]
        return f"{node.op_type} '{node.name or next(iter(node.output), '')}'"


Handler = Callable[[Channels, int], str | None]  # None, or why it is not followed


def follow_layer(channels: Channels, at: int) -> str | None:
    """Conv, ConvTranspose, Gemm, MatMul."""
    layer = read_layer(channels.index, at)
    if isinstance(layer, str):
        if channels.index.nodes[at].op_type in CONVOLUTIONS:  # products of two values are common, and no layers
            channels.strange[at] = layer
        return layer
    source = channels.value(layer.source)
    outputs, inputs = layer.weight.shape[:2]
    if source is None or len(source.ids) != inputs * layer.groups or outputs % layer.groups:
        return "the shape of what it reads is not known"
    constant = layer_constant(layer, source.constant)
    if layer.groups == 1:
        ids = channels.classes.make(outputs)
    else:  # a group goes whole: its inputs and its outputs
        split = source.ids.reshape(layer.groups, inputs)
        first = channels.classes.merge([split[:, place] for place in range(inputs)])
        ids = np.repeat(first, outputs // layer.groups)
        through = np.repeat(source.constant.reshape(layer.groups, inputs)[:, 0], outputs // layer.groups)
        channels.lose(ids, through, constant, f"its constant meets the zero padding of {channels.title(at)}")
    channels.layers.append(layer)
    channels.values[layer.target] = Value(ids, constant)
    return None


def layer_constant(layer: Layer, source: Numbers) -> Numbers:
    """(out,): what the outputs are if the inputs are these constants; NaN where they are not constant.

    An output is constant if each input that it reads is, and those that are not 0 do not meet padding.
    """
    each = len(layer.weight) // layer.groups
    known = np.repeat(source.reshape(layer.groups, -1), each, axis=0)  # (out, in / groups)
    silent = known == 0
    moving = (layer.read & np.isnan(known)) | (layer.read_at_border & ~silent)
    with np.errstate(all="ignore"):
        total = layer.bias + (np.where(layer.read & ~np.isnan(known), known, 0) * layer.sums).sum(axis=1)
        typed = total.astype(layer.weight.dtype).astype(np.float64)
    constant: Numbers = np.where(moving.any(axis=1) | ~np.isfinite(typed), np.nan, typed)
    return constant
