"""What scorers that differentiate have in common: a model called with other weights, and left as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from ntksap_export.masks import Mask
from ntksap_export.pruning.inputs import ScoringInputs

Tensors = dict[str, torch.Tensor]


@contextlib.contextmanager
def modes(model: nn.Module, train_norms: bool = False) -> Iterator[None]:
    """Eval mode, BatchNorm in train mode where asked for, with autograd on; each module's own mode afterwards."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.train(train_norms)
    try:
        with torch.enable_grad():
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


def labelled_batches(model: nn.Module, inputs: ScoringInputs) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The scoring batches on the model's device."""
    device = next(model.parameters()).device
    for batch in range(inputs.batches):
        yield inputs.labelled(batch, device)


def loss_gradients(model: nn.Module, weights: Tensors, inputs: ScoringInputs, temperature: float = 1.0) -> Tensors:
    """dL/dw by the effective weights, L the mean cross-entropy of a batch, summed over the scoring batches."""
    sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for images, labels in labelled_batches(model, inputs):
        loss = functional.cross_entropy(call(model, weights, images) / temperature, labels)
        for total, gradient in zip(
            sums.values(),
            torch.autograd.grad(loss, list(weights.values()), materialize_grads=True),
            strict=True,
        ):
            total.add_(gradient)
    return sums
