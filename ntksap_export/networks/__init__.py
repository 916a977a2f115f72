"""Networks by name, whoever wrote them: ours, torchvision's, timm's, or the user's own.

    resnet20                   a line of the table of models (`ntksap list models`)
    torchvision:NAME           a classifier of torchvision, from random weights
    timm:NAME                  a classifier of timm, from random weights
    package.module:factory     the user's own: called with `num_classes` if it takes it, returns an nn.Module

A name is all that a run directory keeps: each stage, and each measuring process, builds the network from it again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ntksap_export import models
from ntksap_export.errors import ConfigError
from ntksap_export.networks import libraries, own
from ntksap_export.networks.checks import check

__all__ = ["NetworkInfo", "build", "check_network", "info", "is_own", "load"]

_LARGE, _SMALL = 224, 32


@dataclass(frozen=True, slots=True)
class NetworkInfo:
    """What is known of a network before it is built.

    Attributes:
        image_size: side of its input for large images, in pixels.
        sample_size: side at which the embedded sample is fed.
        fixed_size: whether it takes no other size than `image_size`.
        stems: whether its first layers can be chosen.
    """

    image_size: int
    sample_size: int
    fixed_size: bool = False
    stems: bool = False


def info(name: str) -> NetworkInfo:
    """What is known of `name`; imports what it names.

    Raises:
        ConfigError: there is no such network.
        UnavailableError: its library is not installed.
    """
    library, _, rest = name.partition(":")
    if not rest:
        return _from_table(name)
    if library in libraries.LIBRARIES:
        size = libraries.image_size(library, rest)
        return NetworkInfo(size, size)
    with torch.random.fork_rng(devices=[]):  # a module may draw while it is imported
        own.factory(name)
    return NetworkInfo(_LARGE, _SMALL)


def is_own(name: str) -> bool:
    """Whether `name` is the user's own code."""
    library, colon, _ = name.partition(":")
    return bool(colon) and library not in libraries.LIBRARIES


def load(name: str) -> None:
    """Import what `name` needs, and build nothing.

    Raises:
        ConfigError, UnavailableError: as `info`.
    """
    info(name)


def build(name: str, num_classes: int, seed: int = 0, stem: str = "auto") -> nn.Module:
    """A freshly initialized network, in train mode, on the CPU; the caller's random state stays.

    Ours are drawn as `models.build` says; the others as their own code draws them from torch's random numbers.

    Args:
        name: see above.
        num_classes: outputs of the classifier.
        seed: the initialization.
        stem: of ours only.

    Raises:
        ConfigError: there is no such network, or it cannot be built so.
        UnavailableError: its library is not installed.
    """
    library, _, rest = name.partition(":")
    if not rest:
        _from_table(name)
        try:
            return models.build(name, num_classes, seed, stem)
        except ValueError as error:
            raise ConfigError(str(error)) from None
    if stem != "auto":
        raise ConfigError(
            f"--stem chooses the first layers of our own networks; got '{stem}' for {name}. Leave it away"
        )
    load(name)  # first: what an import draws is none of the network's random numbers
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if library in libraries.LIBRARIES:
            model = libraries.build(library, rest, num_classes)
        else:
            model = own.build(name, num_classes)
    return model.cpu().train()


def check_network(
    name: str, num_classes: int, shape: tuple[int, int, int], seed: int = 0, stem: str = "auto"
) -> nn.Module:
    """Build a network and try out what this package asks of it; ours are known and only built.

    Args:
        name: see above.
        num_classes: outputs of the classifier.
        shape: (C, H, W) of its input.
        seed: the initialization.
        stem: of ours only.

    Raises:
        ConfigError: it is not what can be pruned, trained and built again; says why.
        UnavailableError: its library is not installed.
    """
    model = build(name, num_classes, seed, stem)
    if ":" in name:
        check(name, model, build(name, num_classes, seed, stem), num_classes, shape)
    return model


def _from_table(name: str) -> NetworkInfo:
    try:
        entry = models.info(name)
    except models.UnknownModelError as error:
        hint = " Your own is written package.module:factory" if "." in name or "/" in name or ":" in name else ""
        raise ConfigError(f"{error}{hint}") from None
    return NetworkInfo(entry.image_size, 64 if entry.stems else entry.image_size, entry.fixed_size, entry.stems)
