"""Removing channels from one layer, in place: rows, columns, and the numbers that the layer keeps about itself.

Conv2d (grouped and depthwise too), Linear, BatchNorm, InstanceNorm and PReLU. Norms that mix their channels (LayerNorm,
GroupNorm) are not here: without some channels they are another function.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ntksap_export.errors import CheckpointError

SLICEABLE = (nn.Conv2d, nn.Linear, _NormBase, nn.PReLU)  # _NormBase: BatchNorm and InstanceNorm
_OWN = {  # the tensors that slicing knows of
    nn.Conv2d: {"weight", "bias"},
    nn.Linear: {"weight", "bias"},
    _NormBase: {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"},
    nn.PReLU: {"weight"},
}


@dataclass(frozen=True, slots=True)
class Kept:
    """What stays of one side of a layer.

    Attributes:
        of: channels that the dense layer has there.
        channels: those that stay, ascending, at least one.

    Raises:
        CheckpointError: they are not ascending numbers below `of`.
    """

    of: int
    channels: tuple[int, ...]

    def __post_init__(self) -> None:
        ascending = all(a < b for a, b in zip(self.channels, self.channels[1:], strict=False))
        if not self.channels or not ascending or self.channels[0] < 0 or self.channels[-1] >= self.of:
            raise CheckpointError(
                f"kept channels must be ascending numbers from 0 to {self.of - 1}, at least one; "
                f"got {as_ranges(self.channels)[:60] or 'none'}"
            )


def as_ranges(numbers: Iterable[int]) -> str:
    """`0-3,5` for 0, 1, 2, 3, 5."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def is_depthwise(module: nn.Module) -> bool:
    """Whether each output channel is made of the one input channel of its own number."""
    return (
        isinstance(module, nn.Conv2d)
        and module.groups > 1
        and module.groups == module.in_channels == module.out_channels
    )


def channel_counts(module: nn.Module) -> tuple[int, int]:
    """Output and input channels of a sliceable layer; equal where both are one."""
    if isinstance(module, nn.Conv2d):
        return module.out_channels, module.in_channels
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    if isinstance(module, _NormBase):
        return module.num_features, module.num_features
    assert isinstance(module, nn.PReLU)
    return module.num_parameters, module.num_parameters


def unsliceable(module: nn.Module) -> str | None:
    """Why a layer cannot lose channels whoever asks; None if it can."""
    if not isinstance(module, SLICEABLE):
        return "cannot be sliced by channel"
    kind = next(kind for kind in SLICEABLE if isinstance(module, kind))
    # A weight that is computed (weight_norm, spectral_norm) is no parameter of its own name.
    tensors = {name for name, _ in (*module.named_parameters(), *module.named_buffers())}
    if extra := sorted(tensors - _OWN[kind]):
        return f"has tensors of its own ({extra[0]})"
    return None


def misfit(module: nn.Module, out: Kept | None, into: Kept | None) -> str | None:
    """Why a layer cannot keep these channels, None if it can; a side that is None stays whole."""
    if problem := unsliceable(module):
        return f"it {problem}"
    dense_out, dense_in = channel_counts(module)
    if out is not None and out.of != dense_out:
        return f"it has {dense_out} output channels, the plan knows {out.of}"
    if into is not None:
        if is_depthwise(module) or not isinstance(module, nn.Conv2d | nn.Linear):
            return "its input channels are its output channels, the plan has both"
        if into.of != dense_in:
            return f"it has {dense_in} input channels, the plan knows {into.of}"
        if len(weight_columns(module, into.channels)) * _groups(module) != len(into.channels):
            return f"its {_groups(module)} groups do not keep the same input channels"
    if out is not None:
        per_group = [channel // (out.of // _groups(module)) for channel in out.channels]
        if len({per_group.count(group) for group in range(_groups(module))}) > 1:
            return f"its {_groups(module)} groups do not keep equally many output channels"
    return None


def weight_columns(module: nn.Module, into: Sequence[int]) -> list[int]:
    """Columns (axis 1) of the weight that read the input channels `into`: one for each place in a group."""
    period = channel_counts(module)[1] // _groups(module)
    return sorted({channel % period for channel in into})


def shared_parameters(model: nn.Module) -> dict[str, str]:
    """Names of layers that hold a parameter which another module holds too, each with that module's name."""
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():  # a module with two names comes once
        for parameter in dict.fromkeys(module.parameters(recurse=False)):
            owners.setdefault(id(parameter), []).append(name)
    return {
        name: next(other for other in names if other != name)
        for names in owners.values()
        if len(names) > 1
        for name in names
    }


@torch.no_grad()
def slice_(module: nn.Module, out: Kept | None, into: Kept | None) -> None:
    """Keep only these channels, in place; None keeps a side whole. The layer has been checked by `misfit`.

    New parameters keep dtype, device, memory format and `requires_grad`; gradients are dropped.
    """
    if out is not None:
        for name in ("weight", "bias", "running_mean", "running_var"):
            _select_(module, name, 0, out.channels)
    if into is not None:
        _select_(module, "weight", 1, weight_columns(module, into.channels))
    if isinstance(module, nn.Conv2d):
        if is_depthwise(module) and out is not None:
            module.in_channels = module.groups = len(out.channels)
        module.in_channels = module.in_channels if into is None else len(into.channels)
        module.out_channels = module.out_channels if out is None else len(out.channels)
    elif isinstance(module, nn.Linear):
        module.in_features = module.in_features if into is None else len(into.channels)
        module.out_features = module.out_features if out is None else len(out.channels)
    elif isinstance(module, _NormBase) and out is not None:
        module.num_features = len(out.channels)
    elif isinstance(module, nn.PReLU) and out is not None:
        module.num_parameters = len(out.channels)


def _select_(module: nn.Module, name: str, axis: int, kept: Sequence[int]) -> None:
    tensor = getattr(module, name, None)
    if tensor is None:
        return
    part = tensor.detach().index_select(axis, torch.tensor(kept, device=tensor.device))
    if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        part = part.contiguous(memory_format=torch.channels_last)
    if isinstance(tensor, nn.Parameter):
        part = nn.Parameter(part, requires_grad=tensor.requires_grad)
    setattr(module, name, part)


def _groups(module: nn.Module) -> int:
    return module.groups if isinstance(module, nn.Conv2d) and not is_depthwise(module) else 1
