"""Units of channels: the least that can go alone, made of what torch-pruning claims about one layer.

A unit is one channel of a layer, with its row, its norms and the columns that read it in every layer behind; where a
grouped convolution stands, one channel of each of its groups. Residual sums and depthwise convolutions tie the units of
several layers together, a concatenation sets those of several side by side, a flatten gives each unit many columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from ntksap_export.pruning.channel_plan import ChannelPlan, GroupSummary, LayerChannels
from ntksap_export.pruning.channel_slices import (
    Kept,
    as_ranges,
    channel_counts,
    is_depthwise,
    shared_parameters,
    unsliceable,
)
from ntksap_export.pruning.dependencies import Coupling, Side


@dataclass(frozen=True, slots=True)
class Member:
    """What one layer gives to a group.

    Attributes:
        layer: its name.
        side: `out` (rows, norms' and depthwise channels) or `in` (columns).
        of: channels of the layer on that side.
        positions: those that belong to the group, ascending.
        units: for each of them, the unit that it goes with.
    """

    layer: str
    side: Side
    of: int
    positions: tuple[int, ...]
    units: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ChannelGroup:
    """Channels that live and die together.

    Attributes:
        name: the layer that puts them out, the first of several; with its channels where they are not all of them.
        channels: of that layer, in this group.
        units: numbers of what can go alone; each is `channels // units` channels of that layer.
        members: every layer that is touched.
        operators: what stands between the layers, by autograd's names.
        reason: why no channel of the group can go; None if they can.
    """

    name: str
    channels: int
    units: int
    members: tuple[Member, ...]
    operators: tuple[str, ...] = ()
    reason: str | None = None

    @property
    def unit_channels(self) -> int:
        """Channels of the naming layer that go with one unit."""
        return self.channels // self.units


def plan_of(groups: Iterable[ChannelGroup], kept: Iterable[Sequence[int]]) -> ChannelPlan:
    """The plan that keeps of each group the units given for it, in ascending order."""
    removed: dict[tuple[str, Side], set[int]] = {}
    sizes: dict[tuple[str, Side], int] = {}
    summaries = []
    for group, units in zip(groups, kept, strict=True):
        stay = set(units)
        summaries.append(GroupSummary(group.name, group.channels, len(stay) * group.unit_channels, group.reason))
        for member in group.members if len(stay) < group.units else ():
            key = (member.layer, member.side)
            sizes[key] = member.of
            gone = {at for at, unit in zip(member.positions, member.units, strict=True) if unit not in stay}
            removed.setdefault(key, set()).update(gone)
    layers: dict[str, LayerChannels] = {}
    for (layer, side), gone in removed.items():
        part = Kept(sizes[layer, side], tuple(at for at in range(sizes[layer, side]) if at not in gone))
        before = layers.get(layer, LayerChannels())
        layers[layer] = replace(before, out=part) if side == "out" else replace(before, into=part)
    return ChannelPlan(layers, tuple(summaries))


def groups_of(coupling: Coupling, model: nn.Module) -> list[ChannelGroup]:
    """One group for each set of layers that some of the coupling's units touch alike."""
    modules = dict(model.named_modules())
    unit_of = list(range(coupling.channels))
    reason = _obstacle(coupling, modules, shared_parameters(model)) or _merge_units_(unit_of, coupling, modules)
    touched: dict[int, set[tuple[str, Side]]] = {}
    for reach in coupling.reaches:
        for channel in reach.channels:
            touched.setdefault(unit_of[channel], set()).add((reach.layer, reach.side))
    alike: dict[frozenset[tuple[str, Side]], list[int]] = {}
    for unit in sorted(touched):
        alike.setdefault(frozenset(touched[unit]), []).append(unit)
    return [_group(coupling, units, unit_of, modules, reason) for units in alike.values()]


def _group(
    coupling: Coupling,
    units: list[int],
    unit_of: list[int],
    modules: Mapping[str, nn.Module],
    reason: str | None,
) -> ChannelGroup:
    number = {unit: index for index, unit in enumerate(units)}
    members = []
    for reach in coupling.reaches:
        pairs = [
            (at, number[unit_of[channel]])
            for at, channel in zip(reach.positions, reach.channels, strict=True)
            if unit_of[channel] in number
        ]
        module = modules[reach.layer]
        of = channel_counts(module)[0 if reach.side == "out" else 1] if unsliceable(module) is None else 0
        if pairs:
            positions, of_units = (tuple(part) for part in zip(*pairs, strict=True))
            members.append(Member(reach.layer, reach.side, of, positions, of_units))
    # First, and naming the group: a whole layer that puts the channels out; then the model's order.
    order = {name: index for index, name in enumerate(modules)}
    members.sort(
        key=lambda member: (
            not _puts_out(member, modules),
            len(member.positions) < member.of,
            order[member.layer],
            member.side,
        )
    )
    first = members[0]
    part = "" if len(first.positions) >= first.of else f"[{as_ranges(first.positions)}]"
    if reason is None:
        reason = _uneven(members, len(units))
    return ChannelGroup(
        first.layer + part, len(first.positions), len(units), tuple(members), coupling.operators, reason
    )


def _puts_out(member: Member, modules: Mapping[str, nn.Module]) -> bool:
    return member.side == "out" and isinstance(modules[member.layer], nn.Conv2d | nn.Linear)


def _obstacle(coupling: Coupling, modules: Mapping[str, nn.Module], shared: Mapping[str, str]) -> str | None:
    """What is known to forbid slicing, before any test."""
    if coupling.is_output:
        return "it is what the model answers with"
    if coupling.parameters:
        return f"its channels meet the parameter '{coupling.parameters[0]}' of no layer that can be sliced"
    for reach in coupling.reaches:
        module = modules[reach.layer]
        if problem := unsliceable(module):
            return f"its channels run through '{reach.layer}' ({type(module).__name__}), which {problem}"
        if reach.layer in shared:
            return f"'{reach.layer}' and '{shared[reach.layer]}' share parameters"
        channels = channel_counts(module)[0 if reach.side == "out" else 1]
        if reach.positions[-1] >= channels:
            return f"its {coupling.channels} channels meet the {channels} of '{reach.layer}'"
    return None


def _merge_units_(unit_of: list[int], coupling: Coupling, modules: Mapping[str, nn.Module]) -> str | None:
    """Let channels that a grouped convolution ties together be one unit, in place; or say why that cannot be."""
    for reach in coupling.reaches:
        module = modules[reach.layer]
        if not isinstance(module, nn.Conv2d) or module.groups == 1 or is_depthwise(module):
            continue
        period = channel_counts(module)[0 if reach.side == "out" else 1] // module.groups
        tied: dict[int, list[int]] = {}
        for at, channel in zip(reach.positions, reach.channels, strict=True):
            tied.setdefault(at % period, []).append(channel)
        if any(len(channels) != module.groups for channels in tied.values()):
            return f"the {module.groups} groups of '{reach.layer}' do not all have its channels"
        for channels in tied.values():
            units = {unit_of[channel] for channel in channels}
            unit_of[:] = [min(units) if unit in units else unit for unit in unit_of]
    return None


def _uneven(members: list[Member], units: int) -> str | None:
    if units == 1:
        return "all its channels could only go together"
    first = members[0]
    if len({first.units.count(unit) for unit in range(units)}) > 1:
        return f"its channels are tied together unevenly in '{first.layer}'"
    return None
