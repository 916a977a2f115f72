"""Graph passes, one file each. A pass changes a copy in place and says in one line what it did.

graph, log = optimize(graph, PASSES)
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import cast

import onnx

from ntksap_export.graph.files import check_valid
from ntksap_export.graph.model import Graph

PASSES: dict[str, str] = {
    "flush_subnormals": "ntksap_export.graph.passes.flush_subnormals:apply_",
    "strip_metadata": "ntksap_export.graph.passes.strip_metadata:apply_",
}


def optimize(graph: Graph, passes: Iterable[str] = tuple(PASSES)) -> tuple[Graph, tuple[str, ...]]:
    """Run the named passes in order over a copy of `graph`.

    Returns:
        The new graph, and one line per pass: `name: what it did`.
    """
    proto = copy.deepcopy(graph.proto)
    log = []
    for name in passes:
        module, function = PASSES[name].split(":")
        apply_ = cast("Callable[[onnx.ModelProto], str]", getattr(import_module(module), function))
        log.append(f"{name}: {apply_(proto)}")
    check_valid(proto)
    return Graph(proto, graph.parameters), tuple(log)
