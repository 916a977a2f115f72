"""torchvision beside a torch without CUDA: its wheel from PyPI does not import there by itself."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

import pytest
import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept_alive: list[torch.library.Library] = []  # an operator lives as long as the library that defined it


def torchvision_models() -> ModuleType:
    """`torchvision.models`; the test is skipped where torchvision is not installed.

    The compiled part of the wheel links CUDA. Where that is missing, the package stops at registering a fake for an
    operator that nobody defined; defining it ourselves is enough for everything that is plain Python.
    """
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    try:
        return importlib.import_module("torchvision.models")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    _kept_alive.append(library)
    return importlib.import_module("torchvision.models")
