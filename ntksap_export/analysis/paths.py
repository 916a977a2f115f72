"""Which kept weights lie on a path from the image to an output, and how many paths there are.

A path leads from one number of the image to one logit, through kept weights; the network is unrolled over positions, so
that a kernel's corner that only ever meets padding is on no path. Biases and norms start and stop none: it is the mask
alone that is looked at, of weights as if they were 1 (a weight that happens to be 0 is kept).
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.func import functional_call

from ntksap_export.analysis.flow import Flow, flow_of, plain
from ntksap_export.analysis.settled import eval_copy
from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask
from ntksap_export.quoting import first_line


def live_weights(model: nn.Module, mask: Mask, shape: tuple[int, ...]) -> Mask:
    """The weights of `mask` that are on a path; those that it does not name count as kept.

    Args:
        model: left untouched.
        mask: of the model's weights.
        shape: (C, H, W) of its image.

    Raises:
        CheckpointError: the mask is another model's.
        ConfigError: the network calls something by which paths cannot be followed, or answers something else than
            logits that depend on the image; says which.
    """
    weights = {name: kept.double().requires_grad_() for name, kept in mask.items()}
    with torch.enable_grad():
        total = plain(_output(model, mask, weights, shape, saturated=True)).sum()
    gradients = (
        torch.autograd.grad(total, list(weights.values()), materialize_grads=True, allow_unused=True)
        if total.requires_grad
        else [torch.zeros_like(weight) for weight in weights.values()]
    )
    # A gradient counts positions: below one half it is what rounding leaves of 0.
    return Mask({name: kept & (gradient > 0.5) for (name, kept), gradient in zip(mask.items(), gradients, strict=True)})


def log10_paths(model: nn.Module, mask: Mask, shape: tuple[int, ...]) -> float:
    """log10 of the number of paths, -inf where there is none. Arguments and errors as in `live_weights`."""
    weights = {name: kept.double() for name, kept in mask.items()}
    with torch.no_grad():
        flow = _output(model, mask, weights, shape, saturated=False)
        total = float(plain(flow, flow.exponent).sum())
    return math.log10(total) + flow.exponent * math.log10(2) if total else -math.inf


def _output(
    model: nn.Module, mask: Mask, weights: dict[str, torch.Tensor], shape: tuple[int, ...], saturated: bool
) -> Flow:
    mask.check_fits(model)
    copied = eval_copy(model)
    state = {name: torch.ones_like(value, dtype=torch.float64) for name, value in copied.named_parameters()}
    buffers = {name: value.double() for name, value in copied.named_buffers() if value.is_floating_point()}
    device = next(iter(state.values())).device
    weights = {name: weight.to(device) for name, weight in weights.items()}
    image = flow_of(torch.ones(1, *shape, dtype=torch.float64, device=device), saturated)
    try:
        answer = functional_call(copied, {**buffers, **state, **weights}, (image,))
    except ConfigError:
        raise
    except Exception as error:  # a model's own code may fail in any way, at a tensor of another kind too
        raise ConfigError(
            f"the paths of {type(model).__name__} cannot be followed from an image of shape {shape}: "
            f"{first_line(error)}"
        ) from error
    if not isinstance(answer, Flow):
        raise ConfigError(
            f"the paths of {type(model).__name__} cannot be followed: it must answer with one tensor of logits that "
            f"depends on the image; got {type(answer).__name__}"
        )
    return answer
