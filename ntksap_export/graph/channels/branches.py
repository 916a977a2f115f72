"""A branch of a sum that is constant in all its channels: the constant takes its place."""

from __future__ import annotations

from typing import Final

import numpy as np

from ntksap_export.graph.channels.constants import one_place
from ntksap_export.graph.channels.follow import Channels

_KINDS: Final = ("Add", "Div", "Max", "Mean", "Min", "Mul", "PRelu", "Sub", "Sum")


def cut_branches_(channels: Channels) -> bool:
    """Write constant operands as constants, and drop additions of 0; whether there were any."""
    index = channels.index
    cut = False
    for at, node in enumerate(index.nodes):
        if node.op_type not in _KINDS or not index.is_standard(at) or node.output[0] not in channels.values:
            continue
        for place, name in enumerate(node.input):
            others = [other for spot, other in enumerate(node.input) if spot != place]
            value = channels.values.get(name)
            if value is None or index.maker(name) is None or np.isnan(value.constant).any():
                continue
            if not any(_as_large(channels, other, node.output[0]) for other in others):
                continue
            zero = not value.constant.any()
            if zero and len(others) == 1 and (node.op_type == "Add" or (node.op_type == "Sub" and place == 1)):
                index.bypass(at, others[0])
            else:
                rank, kind = len(channels.shape(name)), index.types[name]
                index.point(at, place, index.add(f"{name}_constant", one_place(value.constant, rank, kind)))
            cut = True
            break
    index.sweep()
    return cut


def _as_large(channels: Channels, name: str, target: str) -> bool:
    """Whether a value has the shape of `target` without being stretched; sizes that are not known are not believed."""
    mine, wanted = channels.shape(name), channels.shape(target)
    if name not in channels.values or len(mine) != len(wanted):
        return False
    return all(one == other and other is not None for one, other in zip(mine, wanted, strict=True))
