"""Which channels can go: the largest set that changes nothing that is read.

Begin with all classes gone and let those stay that must, until nothing more must:

    - what the outside or an unknown operator reads;
    - an input channel of a layer, if an output channel that stays has a weight on it, and its constant cannot be moved
      into the bias: there is none, or it is not 0 and a tap with weight falls on padding, or a weight is not finite;
    - one channel of each value: runtimes have no values without channels. Nobody needs what it says, so that what it
      reads need not stay for it.

And for speed, in the same way: a value of more than 8 channels keeps a multiple of 4 (onnxruntime 1.31 runs a 3x3
convolution of 63 channels 20 % slower than one of 64, and one of 60 as fast).

A class is gone only as a whole, so that in a residual sum a channel goes only if it is not needed in any branch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from ntksap_export.graph.channels.follow import Channels
from ntksap_export.graph.channels.layers import Layer
from ntksap_export.graph.channels.values import Flags, Ids, Value

ALIVE: Final = "the channel is in use in another branch"
LAST: Final = "it is the last channel of its value, and one must stay"


EVEN: Final = "it makes the channels of its value a multiple of 4, which is faster"
_MULTIPLE: Final = 4
_FEW: Final = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """Which channels stay.

    Attributes:
        channels: what is known of the graph.
        roots: class of each id.
        needed: by class; those that must stay for what they say.
        stays: by class; these, and those that stay for their place alone.
        why: class -> reason, for those that stay for another reason than being in use.
    """

    channels: Channels
    roots: Ids
    needed: Flags
    stays: Flags
    why: dict[int, str]

    def kept(self, value: Value) -> Flags:
        """(C,): the channels of a value that stay."""
        kept: Flags = self.stays[self.roots[value.ids]]
        return kept

    def reason(self, channel: int) -> str:
        """Why the channel of this id stays although it is constant."""
        return self.why.get(int(self.roots[channel]), ALIVE)


def make_plan(channels: Channels) -> Plan:
    """The plan that removes most."""
    roots = channels.classes.roots()
    none = np.zeros(len(roots), bool)
    plan = Plan(channels, roots, none, none.copy(), {})
    for ids, reason in channels.pinned:
        _keep(plan, roots[ids], reason)
    layers = [layer for layer in reversed(channels.layers) if layer.groups == 1]
    changed = True
    while changed:
        before = int(plan.needed.sum())
        for layer in layers:
            _keep_read(plan, layer)
        changed = int(plan.needed.sum()) != before
    _keep_one_of_each(plan)
    _keep_multiples(plan)
    for item, reason in channels.lost.items():
        plan.why.setdefault(int(roots[item]), reason)
    return plan


def _keep(plan: Plan, classes: Ids, reason: str | None) -> None:
    plan.needed[classes] = plan.stays[classes] = True
    if reason is not None:
        for item in classes.tolist():
            plan.why.setdefault(item, reason)


def _keep_read(plan: Plan, layer: Layer) -> None:
    source, target = plan.channels.values[layer.source], plan.channels.values[layer.target]
    rows = plan.needed[plan.roots[target.ids]]
    read, meets = layer.read[rows].any(axis=0), layer.read_at_border[rows].any(axis=0)
    known = ~np.isnan(source.constant)
    padding = read & known & (source.constant != 0) & meets
    _keep(plan, plan.roots[source.ids[read & ~known]], None)
    name = plan.channels.title(layer.at)
    _keep(plan, plan.roots[source.ids[padding]], f"its constant is not 0 and meets the zero padding of {name}")
    broken = known & ~np.isfinite(layer.sums[rows]).all(axis=0)
    _keep(plan, plan.roots[source.ids[broken]], f"a weight of {name} on it is not finite")


def _keep_one_of_each(plan: Plan) -> None:
    for value in plan.channels.values.values():
        if len(value.ids) and not plan.kept(value).any():
            first = int(plan.roots[value.ids[0]])
            plan.stays[first] = True
            plan.why.setdefault(first, LAST)


def _keep_multiples(plan: Plan) -> None:
    for layer in plan.channels.layers:
        value = plan.channels.values[layer.target]
        kept = plan.kept(value)
        count = int(kept.sum())
        missing = -count % _MULTIPLE
        if not missing or count <= _FEW or count + missing > len(kept):
            continue
        for item in plan.roots[value.ids[~kept]][:missing].tolist():
            plan.stays[item] = True
            plan.why.setdefault(item, EVEN)
