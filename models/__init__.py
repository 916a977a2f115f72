"""Plain convolutional networks, built by name. Nothing here knows about pruning.

    model = build("resnet20", num_classes=10, seed=0)

`build` draws every weight from the seed alone and leaves the caller's random state as it was, so that an
initialization can be made again from its name and seed. Prunable weights are drawn as in the NTK-SAP paper:
Kaiming normal, fan-in, gain sqrt(2) (1 in linear networks), for convolutions and the classifier alike; norms start at 1
and 0; biases keep PyTorch's uniform default.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from ntksap_export.models.table import MODELS, ModelInfo

if TYPE_CHECKING:
    from torch import nn

__all__ = ["MODELS", "ModelInfo", "UnknownModelError", "build", "info"]


class UnknownModelError(LookupError):
    """No model of that name; the message suggests near ones."""


def info(name: str) -> ModelInfo:
    """The table's line for `name`.

    Raises:
        UnknownModelError: there is no such model.
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(MODELS)}"
        raise UnknownModelError(f"unknown model '{name}'; {hint}")
    return MODELS[name]


def build(name: str, num_classes: int, seed: int = 0, stem: str = "auto") -> nn.Module:
    """A freshly initialized model, in train mode, float32, on the CPU.

    Args:
        name: a key of `MODELS`.
        num_classes: outputs of the classifier, at least 1.
        seed: the initialization; equal seeds give equal weights.
        stem: `imagenet`, `cifar`, or `auto` (the one the model was designed with).

    Raises:
        UnknownModelError: there is no such model.
        ValueError: `num_classes` below 1, or a stem that the model does not have.
    """
    entry = info(name)
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1; got {num_classes}")
    if stem not in ("auto", "imagenet", "cifar"):
        raise ValueError(f"stem must be auto, imagenet or cifar; got '{stem}'")
    if not entry.stems and stem == "imagenet":
        raise ValueError(f"{name} has no imagenet stem; choose one such as resnet18, or leave --stem away")
    import torch  # not above: the table alone must not load it

    from ntksap_export.models.initialization import initialize_

    module, function = entry.factory.split(":")
    factory = cast("Callable[..., nn.Module]", getattr(import_module(module), function))
    options: dict[str, Any] = dict(entry.arguments)
    if entry.stems:
        options["stem"] = "imagenet" if stem == "auto" else stem
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the CUDA generators too
        model = factory(num_classes=num_classes, **options)
        initialize_(model, entry.squared_gain)
    return model
