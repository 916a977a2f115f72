"""Plain convolutional networks, built by name. Nothing here knows about pruning.

    model = build("resnet20", num_classes=10, seed=0)

`build` draws every weight from the seed alone and leaves the caller's random state as it was, so that an
initialization can be made again from its name and seed. Prunable weights are drawn as in the NTK-SAP paper:
Kaiming normal, fan-in, gain sqrt(2), for convolutions and the classifier alike; norms start at 1 and 0; biases keep
PyTorch's uniform default.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import cast

import torch
from torch import nn

from ntksap_export.models.initialization import initialize_


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One line of the table of models.

    Attributes:
        factory: `module:function`, called with `num_classes` and, where `stems` is true, `stem`.
        image_size: side of the square input it was designed for, in pixels.
        stems: whether the first layers can be chosen (`imagenet`: 7x7 stride 2 and max-pool; `cifar`: 3x3).
        summary: what it is, for `ntksap list models`.
    """

    factory: str
    image_size: int
    stems: bool
    summary: str


MODELS: dict[str, ModelInfo] = {
    "resnet20": ModelInfo("ntksap_export.models.resnet_cifar:resnet20", 32, False, "CIFAR ResNet, 0.27 M weights"),
    "resnet32": ModelInfo("ntksap_export.models.resnet_cifar:resnet32", 32, False, "CIFAR ResNet, 0.47 M weights"),
    "resnet56": ModelInfo("ntksap_export.models.resnet_cifar:resnet56", 32, False, "CIFAR ResNet, 0.86 M weights"),
    "resnet18": ModelInfo("ntksap_export.models.resnet:resnet18", 224, True, "ResNet, names as in torchvision"),
    "resnet34": ModelInfo("ntksap_export.models.resnet:resnet34", 224, True, "ResNet, names as in torchvision"),
    "resnet50": ModelInfo("ntksap_export.models.resnet:resnet50", 224, True, "ResNet, names as in torchvision"),
    "vgg16_bn": ModelInfo("ntksap_export.models.vgg:vgg16_bn", 32, False, "CIFAR VGG-16 with BatchNorm"),
}


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
        raise ValueError(f"{name} has no imagenet stem; choose resnet18, resnet34 or resnet50, or leave --stem away")
    module, function = entry.factory.split(":")
    factory = cast("Callable[..., nn.Module]", getattr(import_module(module), function))
    options = {"stem": "imagenet" if stem == "auto" else stem} if entry.stems else {}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the CUDA generators too
        model = factory(num_classes=num_classes, **options)
        initialize_(model)
    return model
