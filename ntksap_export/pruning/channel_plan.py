"""Which channels a slim network kept, so that it can be built again from its name and a few numbers.

    slim = plan.apply(models.build("resnet50", num_classes=1000))

A plan is data: for each layer that lost something, the output and the input channels that stay. Applied, it gives a
plain smaller module; as a mask, it gives the same function on the dense model.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ntksap_export.errors import CheckpointError
from ntksap_export.masks import Mask
from ntksap_export.pruning.channel_slices import (
    SLICEABLE,
    Kept,
    as_ranges,
    misfit,
    shared_parameters,
    slice_,
    weight_columns,
)


@dataclass(frozen=True, slots=True)
class LayerChannels:
    """What stays of one layer; None where a side is whole. Norms and depthwise convolutions have `out` alone."""

    out: Kept | None = None
    into: Kept | None = None


@dataclass(frozen=True, slots=True)
class GroupSummary:
    """One group of channels that live and die together, for reports.

    Attributes:
        layer: the first layer that puts the channels out.
        channels: dense.
        kept: of these.
        reason: why the group was left whole; None if it could be pruned.
    """

    layer: str
    channels: int
    kept: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ChannelPlan:
    """What stays of every layer that lost channels.

    Attributes:
        layers: by module name; a layer that is not here is whole.
        groups: what was decided, group by group.
    """

    layers: Mapping[str, LayerChannels] = field(default_factory=dict)
    groups: tuple[GroupSummary, ...] = ()

    def apply(self, model: nn.Module) -> nn.Module:
        """A copy of `model` without the channels that went: smaller, plain, with its modes, dtypes and devices.

        Args:
            model: the dense model; left untouched.

        Raises:
            CheckpointError: a layer is not there, has other channels, shares its parameters or cannot be sliced.
        """
        self.check_fits(model)
        slim = copy.deepcopy(model)
        for name, sides in self.layers.items():
            slice_(slim.get_submodule(name), sides.out, sides.into)
        return slim

    def mask(self, model: nn.Module) -> Mask:
        """The mask that prunes, on the dense `model`, exactly the weights that `apply` removes.

        Raises:
            CheckpointError: as `apply`.
        """
        self.check_fits(model)
        tensors = dict(Mask.dense(model))
        for name, sides in self.layers.items():
            if (whole := tensors.get(f"{name}.weight")) is None:
                continue  # a norm
            kept = whole.clone()
            if sides.out is not None:
                kept[_others(whole.shape[0], sides.out.channels)] = False
            if sides.into is not None:
                columns = weight_columns(model.get_submodule(name), sides.into.channels)
                kept[:, _others(whole.shape[1], columns)] = False
            tensors[f"{name}.weight"] = kept
        return Mask(tensors)

    def check_fits(self, model: nn.Module) -> None:
        """Check that every layer of the plan is in `model`, with the channels that it was made for.

        Raises:
            CheckpointError: names the first difference.
        """
        modules = dict(model.named_modules())
        shared = shared_parameters(model)
        for name, sides in self.layers.items():
            if name not in modules:
                raise CheckpointError(f"the plan has '{name}', which the model has not; was it made for another model?")
            module = modules[name]
            if not isinstance(module, SLICEABLE):
                kind = type(module).__name__
                raise CheckpointError(f"the plan slices '{name}', but channels of a {kind} cannot be removed")
            if name in shared:
                raise CheckpointError(f"'{name}' and '{shared[name]}' share parameters; neither can lose channels")
            if problem := misfit(module, sides.out, sides.into):
                raise CheckpointError(f"the plan does not fit '{name}': {problem}; was it made for another model?")

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form, with channels as ranges; `from_json` reads it."""
        return {
            "layers": {
                name: {
                    side: {"of": kept.of, "kept": as_ranges(kept.channels)}
                    for side, kept in (("out", sides.out), ("in", sides.into))
                    if kept is not None
                }
                for name, sides in self.layers.items()
            },
            "groups": [_group_to_json(group) for group in self.groups],
        }

    def summary(self) -> dict[str, Any]:
        """For reports: channels over all groups, and each group with its reason if it was left whole."""
        return {
            "channels": sum(group.channels for group in self.groups),
            "kept": sum(group.kept for group in self.groups),
            "groups": [_group_to_json(group) for group in self.groups],
        }

    @classmethod
    def from_json(cls, document: Any) -> ChannelPlan:
        """The plan that `to_json` wrote.

        Raises:
            CheckpointError: it is none, or a damaged one; one line says where.
        """
        _expect_keys(document, {"layers", "groups"}, "a channel plan")
        if not isinstance(document["layers"], dict) or not isinstance(document["groups"], list):
            raise CheckpointError("a channel plan has a mapping of layers and a list of groups")
        return cls(
            {name: _layer_from_json(name, sides) for name, sides in document["layers"].items()},
            tuple(_group_from_json(group) for group in document["groups"]),
        )


def _others(of: int, kept: Iterable[int]) -> list[int]:
    stay = set(kept)
    return [index for index in range(of) if index not in stay]


def _from_ranges(text: str, of: int) -> tuple[int, ...]:
    numbers: list[int] = []
    for run in text.split(","):
        first, dash, last = run.partition("-")
        # Plain ASCII digits only, and no range that would fill the memory before it is found too long.
        if not _is_number(first) or (dash and not _is_number(last)) or int(last or first) >= of:
            raise CheckpointError(f"kept channels must be ranges below {of} as in '0-3,5'; got {_shorten(text)}")
        numbers += range(int(first), int(last or first) + 1)
        if len(numbers) > of:
            raise CheckpointError(f"kept channels must be ascending; got {_shorten(text)}")
    return tuple(numbers)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _layer_from_json(name: str, sides: Any) -> LayerChannels:
    if not isinstance(sides, dict) or not sides or not set(sides) <= {"out", "in"}:
        raise CheckpointError(
            f"a channel plan has 'out', 'in' or both for layer {_shorten(name)}; got {_shorten(sides)}"
        )
    return LayerChannels(
        out=_kept_from_json(name, sides["out"]) if "out" in sides else None,
        into=_kept_from_json(name, sides["in"]) if "in" in sides else None,
    )


def _kept_from_json(name: str, side: Any) -> Kept:
    _expect_keys(side, {"of", "kept"}, f"a side of layer {_shorten(name)}")
    if type(side["of"]) is not int or side["of"] < 1 or not isinstance(side["kept"], str):
        raise CheckpointError(
            f"a side of layer {_shorten(name)} has a number of channels and ranges as in '0-3,5'; got {_shorten(side)}"
        )
    try:
        return Kept(side["of"], _from_ranges(side["kept"], side["of"]))
    except CheckpointError as error:
        raise CheckpointError(f"layer {_shorten(name)} of a channel plan: {error}") from None


def _group_to_json(group: GroupSummary) -> dict[str, Any]:
    return {"layer": group.layer, "channels": group.channels, "kept": group.kept, "reason": group.reason}


def _group_from_json(group: Any) -> GroupSummary:
    _expect_keys(group, {"layer", "channels", "kept", "reason"}, "a group of a channel plan")
    counts = (group["channels"], group["kept"])
    if (
        not isinstance(group["layer"], str)
        or not (group["reason"] is None or isinstance(group["reason"], str))
        or any(type(count) is not int for count in counts)
        or not 1 <= group["kept"] <= group["channels"]
    ):
        raise CheckpointError(
            f"a group of a channel plan has a layer, 1 <= kept <= channels, and a reason or null; got {_shorten(group)}"
        )
    return GroupSummary(group["layer"], *counts, group["reason"])


def _expect_keys(value: Any, keys: set[str], what: str) -> None:
    if not isinstance(value, dict) or set(value) != keys:
        raise CheckpointError(f"{what} must have exactly the keys {', '.join(sorted(keys))}; got {_shorten(value)}")


def _shorten(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
