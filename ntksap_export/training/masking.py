"""Keeping pruned weights at exactly zero, whatever the optimizer does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim import SGD, Adadelta, Adagrad, Adam, AdamW, NAdam, RAdam, RMSprop

from ntksap_export.masks import Mask

# Their update of a weight is zero where weight, gradient and state are, and leaves that state zero. Only these very
# classes: a subclass may do something else. All others are repaired after each step.
_LEAVE_ZEROS = frozenset({SGD, Adam, AdamW, NAdam, RAdam, RMSprop, Adagrad, Adadelta, torch.optim.ASGD})

_Factors = dict[nn.Parameter, torch.Tensor]


class _Removable(Protocol):
    def remove(self) -> None: ...


class PrunedHandle:
    """What `keep_pruned` set up on an optimizer; as a context manager it lasts as long as the block."""

    def __init__(self, factors: _Factors, *handles: _Removable) -> None:
        self._factors = factors
        self._handles = handles

    def mask_gradients_(self) -> None:
        """Zero the gradients of pruned weights now, for what looks at them before the step."""
        _mask_gradients_(self._factors)

    def remove(self) -> None:
        """Let the weights go."""
        for handle in self._handles:
            handle.remove()

    def __enter__(self) -> PrunedHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def keep_pruned(optimizer: torch.optim.Optimizer, model: nn.Module, mask: Mask) -> PrunedHandle:
    """From now on every `optimizer.step()` leaves pruned weights and their optimizer state exactly zero.

    Weights and state are zeroed once; before each step, or after its closure, the gradients of pruned weights are
    zeroed in one fused call. A zero weight with a zero gradient and a zero state stays zero under momentum, weight
    decay and Adam alike, so that for most of torch's optimizers nothing need be repaired after the step. Others
    (Adamax, Rprop, Adafactor, Muon, LBFGS, any that torch does not have) mix the weights of a layer or start their
    state above zero: there weights and state are zeroed after each step as well.

    State is what has the weight's shape; Adafactor's row and column sums and LBFGS's history come from masked
    gradients. A state read by `optimizer.load_state_dict` later on is zeroed too (of LBFGS: forgotten). After
    `model.load_state_dict` call `mask.apply_(model)`.

    Averaged weights (`torch.optim.swa_utils.AveragedModel`, EMA) of masked weights are masked: make the copy after this
    call. Gradient clipping before the step sees the gradients of pruned weights as well, unless `clip_norm_` does it;
    an infinite one makes its weight NaN, as it would a living one, unless a `GradScaler` skips the step.

    Args:
        optimizer: holds `model`'s parameters, or some of them.
        model: its pruned weights are zeroed in place; may be wrapped in `DistributedDataParallel` or compiled.
        mask: names and shapes of the model within any wrapper.

    Returns:
        A handle; `handle.remove()` lets the weights go.

    Raises:
        CheckpointError: the mask does not fit the model.
    """
    model = unwrapped(model)
    mask.apply_(model)
    named = dict(model.named_parameters())
    factors = {named[name]: kept.to(named[name]) for name, kept in mask.items() if not bool(kept.all())}

    def before(_: torch.optim.Optimizer, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        if len(args) > 1 and args[1] is not None:  # args[0] is the optimizer
            return (args[0], _masked(args[1], factors), *args[2:]), kwargs
        if kwargs.get("closure") is not None:
            return args, {**kwargs, "closure": _masked(kwargs["closure"], factors)}
        _mask_gradients_(factors)
        return None

    def forget(_: object) -> None:
        _zero_state_(optimizer, factors)

    def repair(*_: object) -> None:
        _repair_(optimizer, factors)

    forget(optimizer)
    handles: list[_Removable] = [
        optimizer.register_step_pre_hook(before),
        optimizer.register_load_state_dict_post_hook(forget),
    ]
    if type(optimizer) not in _LEAVE_ZEROS:
        handles.append(optimizer.register_step_post_hook(repair))
    return PrunedHandle(factors, *handles)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model within `DistributedDataParallel`, `DataParallel` and `torch.compile`, in any order."""
    while True:
        if isinstance(model, DistributedDataParallel | DataParallel):
            model = model.module
        elif isinstance(inner := model._modules.get("_orig_mod"), nn.Module):  # torch.compile's name for it
            model = inner
        else:
            return model


def _masked(closure: Callable[[], Any], factors: _Factors) -> Callable[[], Any]:
    """`closure`, which computes gradients, with those of pruned weights zeroed after each evaluation."""

    def evaluate() -> Any:
        loss = closure()
        _mask_gradients_(factors)
        return loss

    return evaluate


@torch.no_grad()
def _mask_gradients_(factors: _Factors) -> None:
    pairs = [(p.grad, factor) for p, factor in factors.items() if p.grad is not None]
    if pairs:
        gradients, kept = zip(*pairs, strict=True)
        torch._foreach_mul_(list(gradients), list(kept))


@torch.no_grad()
def _zero_state_(optimizer: torch.optim.Optimizer, factors: _Factors) -> None:
    if isinstance(optimizer, torch.optim.LBFGS):
        optimizer.state.clear()  # directions over all weights at once: those of another network's history
        return
    for parameter, factor in factors.items():
        for value in _beside(optimizer, parameter):
            value.mul_(factor)


@torch.no_grad()
def _repair_(optimizer: torch.optim.Optimizer, factors: _Factors) -> None:
    for parameter, factor in factors.items():
        parameter.mul_(factor)
        for value in _beside(optimizer, parameter):
            value.mul_(factor)


def _beside(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> list[torch.Tensor]:
    """The state that has one value for each weight."""
    state: Mapping[str, Any] = optimizer.state.get(parameter, {})
    return [
        value
        for value in state.values()
        if isinstance(value, torch.Tensor) and value.shape == parameter.shape and value.is_floating_point()
    ]
