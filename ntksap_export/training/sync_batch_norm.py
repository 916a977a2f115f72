"""BatchNorm over the whole batch when its images are spread over processes.

    mean = sum of x / N,    var = sum of (x - mean)^2 / N        sums over all processes, N = images x height x width

Without it the result would depend on how many processes share a batch. On a GPU torch's own fused form does it; torch
has none for the CPU, so there it is written out, in float32 and differentiated through its two exchanges.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.modules import _functions
from torch.nn.modules.batchnorm import _BatchNorm

from ntksap_export.errors import ConfigError
from ntksap_export.processes import world_size
from ntksap_export.training.parallel import summed

_KNOWN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@contextmanager
def synced_batch_norm(model: nn.Module, wanted: bool = True) -> Iterator[None]:
    """As long as the block lasts, BatchNorm in train mode uses statistics over all processes. Alone: as ever.

    Raises:
        ConfigError: a BatchNorm of some library that may do more than normalize.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not wanted or world_size() == 1:
        layers = []
    for layer in layers:
        if type(layer) not in _KNOWN:  # it may do more than normalize
            raise ConfigError(
                f"BatchNorm over several processes is not known of {type(layer).__name__}; pass --no-sync-bn"
            )
    for layer in layers:
        layer.forward = MethodType(_forward, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _forward(layer: _BatchNorm, x: torch.Tensor) -> torch.Tensor:
    if not layer.training:
        normalized: torch.Tensor = type(layer).forward(layer, x)
        return normalized
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
    momentum = layer.momentum
    if momentum is None:  # a plain average over all batches
        momentum = 1.0 / float(layer.num_batches_tracked) if layer.num_batches_tracked is not None else 0.0
    if x.is_cuda:
        group = distributed.group.WORLD
        return _functions.SyncBatchNorm.apply(  # type: ignore[no-any-return, no-untyped-call]
            x, layer.weight, layer.bias, layer.running_mean, layer.running_var, layer.eps, momentum, group, world_size()
        )
    return _normalize(layer, x, momentum)


def _normalize(layer: _BatchNorm, x: torch.Tensor, momentum: float) -> torch.Tensor:
    axes = [axis for axis in range(x.dim()) if axis != 1]
    shape = [1, -1, *([1] * (x.dim() - 2))]
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    own = wide.new_tensor([float(x.numel() // x.shape[1])])
    sums = _summed(torch.cat((wide.sum(axes), own)))
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centered = wide - mean.view(shape)
    variance = _summed(centered.square().sum(axes)) / count
    if layer.running_mean is not None and layer.running_var is not None:
        with torch.no_grad():
            layer.running_mean.lerp_(mean.detach(), momentum)
            layer.running_var.lerp_(variance.detach() * (count / (count - 1)), momentum)
    normal = centered * torch.rsqrt(variance + layer.eps).view(shape)
    if layer.weight is not None:
        normal = normal * layer.weight.view(shape) + layer.bias.view(shape)
    return normal.to(x.dtype)


class _Sum(torch.autograd.Function):
    """The sum over all processes. Each one's part counts once in everybody's sum: gradients are summed likewise."""

    @staticmethod
    def forward(_: Any, x: torch.Tensor) -> torch.Tensor:
        return summed(x)

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
        return summed(gradient)


def _summed(x: torch.Tensor) -> torch.Tensor:
    total: torch.Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]
    return total
