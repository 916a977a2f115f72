"""The module that each node was traced in, as the exporters of torch leave it in graphs that nobody stripped.

    "/layer1/layer1.0/conv1/Conv"                            node's name, TorchScript exporter
    pkg.torch.onnx.name_scopes: "['', 'layer1', 'layer1.0', 'layer1.0.conv1', 'conv2d']"      metadata, torch.export

The first numbers the calls of a module: `relu_1` is the second of `relu`.
"""

from __future__ import annotations

import ast
import re
from typing import Final

import onnx

_KEY: Final = "pkg.torch.onnx.name_scopes"
_AGAIN: Final = re.compile(r"(.+)_\d+")


def module_scopes(proto: onnx.ModelProto) -> list[str | None]:
    """Dotted name of the module of each node of the outermost graph; None where it is not told, or the model itself."""
    named = [_from_name(node.name) for node in proto.graph.node]
    there = set(named)
    found: list[str | None] = []
    for node, path in zip(proto.graph.node, named, strict=True):
        again = _AGAIN.fullmatch(path or "")
        found.append(_from_notes(node) or (again[1] if again and again[1] in there else path))
    return found


def _from_notes(node: onnx.NodeProto) -> str | None:
    text = next((item.value for item in node.metadata_props if item.key == _KEY), "")
    try:
        scopes = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return None
    inner = [scope for scope in scopes[:-1] if scope and isinstance(scope, str)] if isinstance(scopes, list) else []
    return inner[-1] if inner else None


def _from_name(name: str) -> str | None:
    if not name.startswith("/"):
        return None
    path = ""
    for part in name[1:].split("/")[:-1]:
        path = part if not path or part.startswith(f"{path}.") else f"{path}.{part}"
    return path or None
