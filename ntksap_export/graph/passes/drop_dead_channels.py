"""Remove channels that a mask emptied, and those that nothing reads.

    y_o = b_o + sum_i W[o, i] * x_i       is c_o everywhere, if all weights of o are zero or on constant inputs
    z_p = b_p + sum_o V[p, o] * f(y_o)    ->  b'_p = b_p + sum over constant o of (sum_t V[p, o, t]) * f(c_o)

A channel that is the same number everywhere goes, and its number moves into the bias of what reads it; through
BatchNormalization, activations, pooling, sums, concatenation and flattening it stays a number, which the operator
itself tells (graph/channels). A channel on which no weight lies goes, too. What goes makes others constant or unread,
so that all are found together, as the largest set that can go (graph/channels/plan.py), until nothing more goes.

Exact: a constant 0 moves nothing, so that what is left is computed as before, bit by bit where the runtime sums in the
same order. Another constant is summed in float64 and rounded once, which differs from the runtime's own sum by
rounding. Where it would meet zero padding, the sum over the border is another than inside, and the channel stays; it
goes if all weights on taps that can fall on padding are zero. Finite numbers are taken for granted: 0 * inf is NaN.

A value that is constant in all its channels, and added to or multiplied with another one, is written as a constant, and
the branch that made it is gone. The graph's outputs keep their shape, and each value keeps at least one channel; one of
more than 8 channels keeps a multiple of 4, which runtimes are faster with. Parameters and multiply-adds are counted
dense, zeros included.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from ntksap_export.graph.analysis import Index
from ntksap_export.graph.channels.apply import apply_plan_
from ntksap_export.graph.channels.branches import cut_branches_
from ntksap_export.graph.channels.layers import Layer
from ntksap_export.graph.channels.plan import Plan, make_plan
from ntksap_export.graph.channels.walk import follow
from ntksap_export.graph.passes.outcome import Left, Outcome


@dataclass(frozen=True, slots=True)
class _Size:
    """Of a layer; the multiply-adds are None where the graph leaves the size of images open."""

    name: str
    outputs: int
    inputs: int
    parameters: int
    macs: int | None


def apply_(proto: onnx.ModelProto) -> Outcome:
    """Remove channels of `proto` in place until none can go."""
    before = None
    while True:
        index = Index(proto)
        channels = follow(index)
        before = before or _sizes(channels.layers)
        if cut_branches_(channels):
            continue
        plan = make_plan(channels)
        if not apply_plan_(plan):
            break
    after = _sizes(channels.layers)
    totals = _totals(before, after)
    return Outcome(_said(totals), _rows(before, after), _left(plan), totals)


def _sizes(layers: list[Layer]) -> dict[str, _Size]:
    return {
        layer.target: _Size(
            layer.name, len(layer.weight), layer.weight.shape[1] * layer.groups, layer.parameters, layer.macs
        )
        for layer in layers
    }


def _rows(before: Mapping[str, _Size], after: Mapping[str, _Size]) -> tuple[Mapping[str, Any], ...]:
    rows = []
    for target, old in before.items():
        new = after.get(target, _Size(old.name, 0, 0, 0, 0))
        if new != old:
            rows.append(
                {
                    "layer": old.name,
                    "channels": [old.outputs, new.outputs],
                    "inputs": [old.inputs, new.inputs],
                    "parameters": [old.parameters, new.parameters],
                    "macs": [old.macs, None if old.macs is None else new.macs],
                }
            )
    return tuple(rows)


def _totals(before: Mapping[str, _Size], after: Mapping[str, _Size]) -> dict[str, Any]:
    def sums(sizes: Mapping[str, _Size]) -> tuple[int, int, int | None]:
        macs = [size.macs for size in sizes.values()]
        known = [number for number in macs if number is not None]
        whole = sum(known) if len(known) == len(macs) else None
        return sum(size.outputs for size in sizes.values()), sum(size.parameters for size in sizes.values()), whole

    names = ("channels", "parameters", "macs")
    return {name: list(pair) for name, *pair in zip(names, sums(before), sums(after), strict=True)}


def _said(totals: Mapping[str, Any]) -> str:
    def part(key: str, words: str) -> str:
        before, after = totals[key]
        return f"{before - after} of {before} {words}"

    said = f"{part('channels', 'channels')} removed, {part('parameters', 'parameters')}"
    if None in totals["macs"]:
        return f"{said}; multiply-adds are not known, for the size of images is open"
    return f"{said}, {part('macs', 'multiply-adds per image')}"


def _left(plan: Plan) -> tuple[Left, ...]:
    """Convolutions that are not followed, and constant channels of each layer that stay, by reason."""
    left = [Left(plan.channels.title(at), reason) for at, reason in plan.channels.strange.items()]
    for layer in plan.channels.layers:
        value = plan.channels.values[layer.target]
        constant = value.ids[~np.isnan(value.constant)]
        reasons = Counter(plan.reason(item) for item in constant.tolist())
        left += [Left(f"{layer.name}: {count} constant channels", reason) for reason, count in reasons.items()]
    return tuple(left)
