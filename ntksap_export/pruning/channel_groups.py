"""Groups of channels that live and die together, each proved on the model itself before anything relies on it.

What torch-pruning claims is put to the test: with random weights, in float64, a model without some of a group's units
must answer exactly as the whole model does with their weights at zero. A group that fails is left whole, and says why.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ntksap_export.errors import ConfigError
from ntksap_export.pruning.channel_slices import channel_counts
from ntksap_export.pruning.channel_units import ChannelGroup, Member, groups_of, plan_of
from ntksap_export.pruning.dependencies import Side, couplings, named, naming_failures, tensors_of

_TOLERANCE = 1e-7  # of the largest output; float64 leaves about 1e-13


def channel_groups(model: nn.Module, input_shape: tuple[int, ...]) -> tuple[ChannelGroup, ...]:
    """All groups of `model`, those that must stay whole with their reason; in the model's order.

    Args:
        model: left untouched, its random state and the caller's too.
        input_shape: (C, H, W).

    Raises:
        ConfigError: the model cannot be traced or run; names the module or the operator.
    """
    order = {name: index for index, name in enumerate(dict(model.named_modules()))}
    groups = [group for coupling in couplings(model, input_shape) for group in groups_of(coupling, model)]
    groups += _unreached(groups, model)
    groups.sort(key=lambda group: (order[group.members[0].layer], group.members[0].positions))
    return _proved(_without_overlaps(groups), _Probe(model, input_shape))


def _unreached(groups: list[ChannelGroup], model: nn.Module) -> list[ChannelGroup]:
    """A group of its own, left whole, for every prunable layer whose outputs no trace met."""
    met = {member.layer for group in groups for member in group.members if member.side == "out"}
    counts = {
        name: channel_counts(module)[0]
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and name not in met
    }
    reason = "the trace did not meet it: it does not run, or not as a layer"
    return [
        ChannelGroup(name, channels, 1, (Member(name, "out", channels, (0,), (0,)),), reason=reason)
        for name, channels in counts.items()
    ]


def _without_overlaps(groups: list[ChannelGroup]) -> list[ChannelGroup]:
    """Groups that claim a channel which an earlier one has are left whole, and so are those."""
    owner: dict[tuple[str, Side, int], int] = {}
    clash: dict[int, str] = {}
    for index, group in enumerate(groups):
        for member in group.members:
            for at in member.positions:
                other = owner.setdefault((member.layer, member.side, at), index)
                if other != index:
                    clash[index] = clash[other] = f"two groups claim the same channels of '{member.layer}'"
    return [
        replace(group, reason=group.reason or clash[index]) if index in clash else group
        for index, group in enumerate(groups)
    ]


def _proved(groups: list[ChannelGroup], probe: _Probe) -> tuple[ChannelGroup, ...]:
    """The groups, with a reason on those that fail the test."""
    if probe.agrees(groups):
        return tuple(groups)
    proved = [
        group
        if group.reason is not None or probe.agrees([group])
        else replace(group, reason=f"its channels cannot be followed through {named(group.operators)}")
        for group in groups
    ]
    if not probe.agrees(proved):
        operators = {operator for group in proved for operator in group.operators}
        raise ConfigError(
            f"the channels of {probe.name} cannot be followed: each group can be cut alone, but not all together; "
            f"look at {named(operators)}, or use another --pattern"
        )
    return tuple(proved)


class _Probe:
    """A copy of the model in float64 with random weights, none of them zero, and images to ask it about."""

    def __init__(self, model: nn.Module, input_shape: tuple[int, ...]) -> None:
        self.name = type(model).__name__
        generator = torch.Generator().manual_seed(0)
        self._model = copy.deepcopy(model).cpu().double().eval()
        _randomize_(self._model, generator)
        self._images = torch.randn(1, *input_shape, generator=generator, dtype=torch.float64)
        with naming_failures(self._model, "run in float64, where the channel pattern is tested"):
            self._answers(self._model)

    def agrees(self, groups: Sequence[ChannelGroup]) -> bool:
        """Whether slim and masked model answer alike, with units removed from every other group and then the others.

        Every other: two halves that a `chunk` expects to be of one size are then not cut alike.
        """
        return all(self._agrees_without(groups, parity) for parity in (0, 1))

    def _agrees_without(self, groups: Sequence[ChannelGroup], parity: int) -> bool:
        generator = torch.Generator().manual_seed(parity + 1)
        free = [group for group in groups if group.reason is None]
        kept = []
        for index, group in enumerate(free):
            order = torch.randperm(group.units, generator=generator).tolist()
            stay = 1 + int(torch.randint(group.units - 1, (), generator=generator))
            kept.append(sorted(order[: stay if index % 2 == parity else group.units]))
        plan = plan_of(free, kept)
        if not plan.layers:
            return True
        masked = copy.deepcopy(self._model)
        plan.mask(masked).apply_(masked)
        try:
            slim_answers = self._answers(plan.apply(self._model))
        except Exception:  # whatever a model raises that is built on its old widths
            return False
        pairs = zip(self._answers(masked), slim_answers, strict=True)
        return all(
            whole.shape == slim.shape and bool((whole - slim).abs().max() <= _TOLERANCE * whole.abs().max())
            for whole, slim in pairs
        )

    def _answers(self, model: nn.Module) -> list[torch.Tensor]:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.default_generator.manual_seed(0)
            return [answer.double() for answer in tensors_of(model(self._images))]


@torch.no_grad()
def _randomize_(model: nn.Module, generator: torch.Generator) -> None:
    """Weights that neither vanish nor explode; scales and biases in [0.5, 1.5], so that nothing is dead."""
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.dim() > 1:
            parameter.normal_(0.0, parameter[0].numel() ** -0.5, generator=generator)
        elif parameter.is_floating_point():
            parameter.uniform_(0.5, 1.5, generator=generator)
    for module in model.modules():
        if isinstance(module, _NormBase) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
