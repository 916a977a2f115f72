"""The sparse CPU engine: the convolutional body of a graph as one node of a library that skips the zeros.

    converted = convert(graph)                  # the plan, with the weights, inside the graph
    converted.graph.save(path)
    register(session_options)                   # then onnxruntime opens it like any graph

Names are loaded when they are first used: a process that only registers the library loads neither torch nor onnx.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ntksap_export.engine.conversion import Converted, Left, convert, plans
    from ntksap_export.engine.library import ENGINE_DOMAIN, available, describe, library_path, register
    from ntksap_export.engine.plan_bytes import plan_to_bytes
    from ntksap_export.engine.plan_reader import plan_from_bytes

_PUBLIC = {
    "ENGINE_DOMAIN": "ntksap_export.engine.library",
    "Converted": "ntksap_export.engine.conversion",
    "Left": "ntksap_export.engine.conversion",
    "available": "ntksap_export.engine.library",
    "convert": "ntksap_export.engine.conversion",
    "describe": "ntksap_export.engine.library",
    "library_path": "ntksap_export.engine.library",
    "plan_from_bytes": "ntksap_export.engine.plan_reader",
    "plan_to_bytes": "ntksap_export.engine.plan_bytes",
    "plans": "ntksap_export.engine.conversion",
    "register": "ntksap_export.engine.library",
}

__all__ = [
    "ENGINE_DOMAIN",
    "Converted",
    "Left",
    "available",
    "convert",
    "describe",
    "library_path",
    "plan_from_bytes",
    "plan_to_bytes",
    "plans",
    "register",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(_PUBLIC[name]), name)
