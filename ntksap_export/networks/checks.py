"""What is asked of a network that we did not write, tried out before anything is written."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ntksap_export.errors import ConfigError
from ntksap_export.masks import layer_costs, prunable_names

_IMAGES = 2  # with one image, a classifier that drops or mixes up the batch would not be noticed


def check(name: str, model: nn.Module, again: nn.Module, num_classes: int, shape: tuple[int, int, int]) -> None:
    """Check that a network can be pruned, trained, and built again from its name.

    Args:
        name: for messages.
        model: left untouched.
        again: built once more from the same seed; left untouched.
        num_classes: logits that it must answer.
        shape: (C, H, W) of its input.

    Raises:
        ConfigError: it has no weights to prune, is not float32, differs from one build to the next, cannot take such
            images, or answers something else than logits.
    """
    _check_parameters(name, model)
    _check_same(name, model, again)
    # A copy, as everything later works on copies; in train mode it would change its running statistics.
    try:
        trial = copy.deepcopy(model)
    except Exception as error:
        raise ConfigError(f"model '{name}' cannot be copied: {_short(error)}") from error
    for training in (True, False):
        _check_answer(name, trial.train(training), num_classes, shape)
    try:
        layer_costs(model, shape)
    except Exception as error:
        raise ConfigError(
            f"model '{name}' cannot be run on the meta device, where its cost is counted: "
            f"{_short(error.__cause__ or error)}; make new tensors on the input's device, decide nothing by values"
        ) from error


def _check_parameters(name: str, model: nn.Module) -> None:
    parameters = dict(model.named_parameters())
    for key, parameter in parameters.items():
        if isinstance(parameter, nn.parameter.UninitializedParameter) or parameter.is_meta:
            raise ConfigError(f"model '{name}': '{key}' has no values yet; give every layer its sizes")
        if parameter.dtype != torch.float32:
            raise ConfigError(f"model '{name}' must be float32; '{key}' is {parameter.dtype}. See --precision")
    names = prunable_names(model)
    if not names:
        raise ConfigError(f"model '{name}' has no Conv2d and no Linear, so nothing to prune")
    for key in names:
        if not parameters[key].requires_grad:
            raise ConfigError(f"model '{name}': '{key}' is frozen; leave requires_grad on, --keep-dense exempts layers")


def _check_same(name: str, model: nn.Module, again: nn.Module) -> None:
    first, second = model.state_dict(), again.state_dict()
    for key, tensor in first.items():
        if isinstance(tensor, torch.Tensor) and bool(tensor.isnan().any()):  # not the same as itself
            raise ConfigError(f"model '{name}': '{key}' holds NaN at its initialization; fill every weight")
    if {id(parameter) for parameter in model.parameters()} & {id(parameter) for parameter in again.parameters()}:
        raise ConfigError(f"model '{name}' must return a new network each time; got parameters that it returned before")
    for key, tensor in first.items():
        if isinstance(tensor, torch.Tensor) and not (key in second and torch.equal(tensor, second[key])):
            raise ConfigError(
                f"model '{name}' is not the same each time it is built: '{key}' differs; draw weights with torch's "
                "random numbers alone, whose seed is set before"
            )


@torch.no_grad()
def _check_answer(name: str, trial: nn.Module, num_classes: int, shape: tuple[int, int, int]) -> None:
    images = torch.randn(_IMAGES, *shape, generator=torch.Generator().manual_seed(0))
    mode = "train" if trial.training else "eval"
    try:
        with torch.random.fork_rng(devices=[]):  # of dropout
            logits = trial(images)
    except Exception as error:
        raise ConfigError(
            f"model '{name}' cannot take images of shape {tuple(images.shape)} in {mode} mode: {_short(error)}; "
            "try another --image-size"
        ) from error
    if not isinstance(logits, torch.Tensor):
        raise ConfigError(
            f"model '{name}' must answer a tensor of logits; got {type(logits).__name__} in {mode} mode. "
            "Wrap it in a factory of your own"
        )
    if tuple(logits.shape) != (_IMAGES, num_classes):
        raise ConfigError(
            f"model '{name}' must answer ({_IMAGES}, {num_classes}) for {_IMAGES} images and {num_classes} classes; "
            f"got {tuple(logits.shape)}. Does its factory take num_classes?"
        )
    if not bool(logits.isfinite().all()):
        raise ConfigError(f"model '{name}' answers NaN or infinity to normal noise at its initialization")


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0]}"
