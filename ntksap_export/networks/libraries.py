"""Classifiers of torchvision and timm, from random weights: nothing is downloaded.

Both are optional, and their names and defaults are theirs. timm imports torchvision.
"""

from __future__ import annotations

import contextlib
import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Final

from torch import nn

from ntksap_export.errors import ConfigError
from ntksap_export.optional import load, load_torchvision

LIBRARIES: Final = ("torchvision", "timm")
_SIZE: Final = 224
# Heads that only answer while training, and a slow default that these two warn about.
_OPTIONS: Final[Mapping[str, Mapping[str, bool]]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def image_size(library: str, name: str) -> int:
    """Side of the square input that the network was designed for, in pixels.

    Raises:
        ConfigError: the library has no such network.
        UnavailableError: it is not installed.
    """
    if library == "torchvision":
        _known(library, name, _torchvision_names())
        return _SIZE
    timm = _timm()
    _known(library, name.split(".")[0], timm.list_models())
    settings = timm.get_pretrained_cfg(name, allow_unregistered=True)
    sizes = getattr(settings, "input_size", None)
    return int(sizes[-1]) if sizes else _SIZE


def build(library: str, name: str, num_classes: int) -> nn.Module:
    """The network; draws from torch's random numbers as they stand.

    Raises:
        ConfigError: the library has no such network, or cannot build it.
        UnavailableError: it is not installed.
    """
    image_size(library, name)
    if library == "torchvision":
        options = {"weights": None, "num_classes": num_classes, **_OPTIONS.get(name, {})}
        make: Callable[..., nn.Module] = torchvision_models().get_model
    else:
        options, make = {"pretrained": False, "num_classes": num_classes}, _timm().create_model
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return make(name, **options)
    except Exception as error:
        reason = (str(error).splitlines() or ["no message"])[0]
        raise ConfigError(f"model '{library}:{name}' cannot be built: {type(error).__name__}: {reason}") from error


def torchvision_models() -> ModuleType:
    """`torchvision.models`.

    Raises:
        UnavailableError: torchvision is not installed, or does not load beside this torch.
    """
    return load_torchvision("models")


def _timm() -> Any:
    torchvision_models()
    return load("timm", "timm")


def _torchvision_names() -> list[str]:
    models = torchvision_models()
    return list(models.list_models(module=models))  # classifiers; detectors and the like are in modules below


def _known(library: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(f'{library}:{one}' for one in near)}?" if near else "see its documentation"
        raise ConfigError(f"{library} has no classifier '{name}'; {hint}")
