"""Graphs with nodes of the sparse engine: onnxruntime gets the engine's library before it opens one. Imports no torch.

Which graphs these are stands in the list of opsets at the end of the file, so that no other graph pays for the look.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ntksap_export.engine import ENGINE_DOMAIN, register
from ntksap_export.errors import UnavailableError
from ntksap_export.wire import opset_domains


def uses_engine(graph: Path | bytes) -> bool:
    """Whether a graph, a path or its bytes, has nodes of the engine."""
    return ENGINE_DOMAIN in opset_domains(graph)


def give_engine(settings: Any, graph: Path | bytes, provider: str = "cpu") -> None:
    """Register the engine's library with a session's options, where the graph needs it.

    Args:
        settings: onnxruntime's SessionOptions, changed in place.
        graph: a path, or the bytes of a model.
        provider: where it is to run.

    Raises:
        UnavailableError: the library was not built, or the provider is not `cpu`.
    """
    if not uses_engine(graph):
        return
    if provider != "cpu":
        raise UnavailableError(f"the sparse engine runs on the CPU; got {provider}, where model.onnx is to be used")
    register(settings)
