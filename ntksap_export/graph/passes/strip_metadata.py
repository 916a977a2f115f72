"""Remove what the exporter notes about the machine it ran on: source paths, stack traces, class names.

The function of the graph does not change. The producer's name and version stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx

from ntksap_export.graph.passes.outcome import Outcome
from ntksap_export.graph.preprocessing import PREFIX


def apply_(proto: onnx.ModelProto) -> Outcome:
    """Clear doc strings and metadata of the model, its graphs, functions, nodes and values, in place.

    The model's keys under `ntksap.` stay: they say what the graph takes (`graph.preprocessing`).
    """
    removed = 0
    ours = sorted((item.key, item.value) for item in proto.metadata_props if item.key.startswith(PREFIX))
    functions = (part for function in proto.functions for part in _parts(function))
    for item in (proto, *_parts(proto.graph), *functions):
        removed += len(item.metadata_props) + bool(item.doc_string)
        del item.metadata_props[:]
        item.doc_string = ""
    for key, value in ours:
        proto.metadata_props.add(key=key, value=value)
    removed -= len(ours)
    return Outcome(f"{removed} notes removed", ({"what": "the model", "notes": removed},) if removed else ())


def _parts(owner: onnx.GraphProto | onnx.FunctionProto) -> Iterator[Any]:
    """All of a graph or function that can carry notes: itself, values, nodes, and the graphs inside nodes."""
    yield owner
    yield from owner.value_info
    if isinstance(owner, onnx.GraphProto):
        yield from (*owner.input, *owner.output, *owner.initializer)
    for node in owner.node:
        yield node
        for attribute in node.attribute:  # branches of If, bodies of Loop and Scan
            for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _parts(graph)
