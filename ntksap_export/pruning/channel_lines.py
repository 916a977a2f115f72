"""Where the channels of a group stand in the weights: as rows, as columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ntksap_export.pruning.channel_units import ChannelGroup

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Lines:
    """The rows (axis 0) or columns (axis 1) of one weight that belong to a group; `units[i]` owns `indices[i]`."""

    name: str
    axis: int
    indices: Indices
    units: Indices


def lines_of(group: ChannelGroup, shapes: Mapping[str, torch.Size]) -> tuple[Lines, ...]:
    """The rows and columns of all weights that belong to `group`; none of a group that stays whole.

    Args:
        group: of channels.
        shapes: of all prunable weights, by parameter name.
    """
    lines = []
    for member in group.members if group.reason is None else ():
        name = f"{member.layer}.weight"
        if name not in shapes:
            continue  # a norm: it costs nothing here
        axis = 0 if member.side == "out" else 1
        # A grouped convolution has one column for the channels of the same place in all of its groups.
        pairs = {(at % shapes[name][axis], unit) for at, unit in zip(member.positions, member.units, strict=True)}
        table = np.array(sorted(pairs), dtype=np.int64)
        lines.append(Lines(name, axis, table[:, 0], table[:, 1]))
    return tuple(lines)
