"""What scorers that differentiate have in common: a model called with other weights, and left as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from inspect import signature
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from ntksap_export.masks import Mask
from ntksap_export.pruning.distributed import sum_in_order
from ntksap_export.pruning.inputs import Norms, ScoringInputs

Tensors = dict[str, torch.Tensor]


class _HeldStatistics(TorchFunctionMode):
    """Within it, every BatchNorm measures its batch and normalizes with what it measured as constants.

    The same outputs as with batch statistics (the variance is the biased one), other derivatives: none flows through
    mean and variance. Nothing is set on a module, so that nothing has to be restored.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not functional.batch_norm:
            return func(*args, **(kwargs or {}))
        given = signature(functional.batch_norm).bind(*args, **(kwargs or {})).arguments
        x = given["input"]
        var, mean = torch.var_mean(x.detach(), dim=[axis for axis in range(x.dim()) if axis != 1], correction=0)
        return func(**{**given, "running_mean": mean, "running_var": var, "training": False})


@contextlib.contextmanager
def modes(model: nn.Module, norms: Norms = "eval") -> Iterator[None]:
    """Eval mode with autograd on, BatchNorm as asked; each module's own mode afterwards.

    Args:
        model: its modules' modes change within, nothing else does.
        norms: what BatchNorm normalizes with: `eval`, its running statistics; `batch`, those of each batch; `held`,
            those of each batch as constants (see `ScoringInputs.hold_statistics`).
    """
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.train(norms == "batch")
    try:
        with torch.enable_grad(), _HeldStatistics() if norms == "held" else contextlib.nullcontext():
            yield
    finally:
        for module, training in before:
            module.training = training


def masked_weights(model: nn.Module, mask: Mask) -> Tensors:
    """The effective weights w * m of the layers that `mask` names, as leaves to differentiate by."""
    parameters = dict(model.named_parameters())
    return {name: (parameters[name].detach() * kept).requires_grad_() for name, kept in mask.items()}


def initial_weights(model: nn.Module, mask: Mask) -> Tensors:
    """The weights w of the layers that `mask` names, pruned ones included."""
    parameters = dict(model.named_parameters())
    return {name: parameters[name].detach() for name in mask}


def call(model: nn.Module, weights: Mapping[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """The logits with `weights` in place of the model's own; its buffers are copied and not written."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    logits: torch.Tensor = functional_call(model, {**buffers, **weights}, (images,))
    return logits


def loss_gradients(model: nn.Module, weights: Tensors, inputs: ScoringInputs, temperature: float = 1.0) -> Tensors:
    """dL/dw by the effective weights, L the mean cross-entropy of a batch, summed over the scoring batches."""
    sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    device = next(model.parameters()).device

    def gradients(batch: int) -> Tensors:
        images, labels = inputs.labelled(batch, device)
        loss = functional.cross_entropy(call(model, weights, images) / temperature, labels)
        parts = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
        return dict(zip(weights, parts, strict=True))

    sum_in_order(sums, range(inputs.batches), gradients)
    return sums
