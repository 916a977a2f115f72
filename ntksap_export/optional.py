"""Libraries that need not be here: imported when they are first needed, missed in one line."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Final

import torch

from ntksap_export.errors import UnavailableError

_SCHEMAS: Final = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept_alive: list[torch.library.Library] = []  # an operator lives as long as the library that defined it


def load(name: str, extra: str) -> ModuleType:
    """A module of an optional library.

    Args:
        name: as `package.module`.
        extra: what brings it: pip install 'ntksap-export[extra]'.

    Raises:
        UnavailableError: it is not installed, or does not load.
    """
    library = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise does_not_load(library, error) from error
        raise not_installed(library, extra) from None
    except Exception as error:
        raise does_not_load(library, error) from error


def load_torchvision(name: str) -> ModuleType:
    """`torchvision.NAME`, also beside a torch without CUDA.

    The compiled part of the wheel links CUDA. Where that is missing, the package stops at registering a fake for an
    operator that nobody defined; defining it here is enough for everything that is plain Python.

    Raises:
        UnavailableError: torchvision is not installed, or does not load beside this torch.
    """
    try:
        return load(f"torchvision.{name}", "vision")
    except UnavailableError as error:
        if "torchvision::nms does not exist" not in str(error.__cause__):
            raise
    for module in [module for module in sys.modules if module.partition(".")[0] == "torchvision"]:
        del sys.modules[module]
    if not _kept_alive:  # it can be defined once only
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for schema in _SCHEMAS:
            library.define(schema)  # type: ignore[no-untyped-call]
        _kept_alive.append(library)
    return load(f"torchvision.{name}", "vision")


def not_installed(library: str, extra: str) -> UnavailableError:
    """The error where a library is missing."""
    return UnavailableError(f"{library} is not installed; pip install 'ntksap-export[{extra}]'")


def does_not_load(library: str, error: Exception) -> UnavailableError:
    """The error where a library is there and cannot be imported."""
    reason = (str(error).splitlines() or ["no message"])[0]
    return UnavailableError(
        f"{library} does not load beside torch {torch.__version__}: {reason}; install the versions that go together"
    )
