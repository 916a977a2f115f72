"""torchvision, where it is installed."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from ntksap_export.networks import libraries


def torchvision_models() -> ModuleType:
    """`torchvision.models`; the test is skipped where torchvision is not installed."""
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    return libraries.torchvision_models()
