"""A converted graph without what the converter leaves: nodes out of order, unused opset domains, notes, its name."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import onnx

from ntksap_export.errors import ExportError
from ntksap_export.graph.model import Graph
from ntksap_export.graph.passes import optimize


def tidy(graph: Graph, source: Graph) -> Graph:
    """A clean copy, checked.

    Args:
        graph: from a converter; not changed.
        source: what it was made of: its producer and its metadata stand in the result too.

    Raises:
        ExportError: it is not a valid graph.
    """
    proto = copy.deepcopy(graph.proto)
    nodes = [copy.deepcopy(node) for node in _ordered(proto.graph.node)]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    used = {node.domain for node in nodes} | {"", *(function.domain for function in proto.functions)}
    kept = sorted({item.domain: item.version for item in proto.opset_import if item.domain in used}.items())
    del proto.opset_import[:]
    for domain, version in kept:
        proto.opset_import.add(domain=domain, version=version)
    for field in ("producer_name", "producer_version"):
        proto.ClearField(field)
        if source.proto.HasField(field):
            setattr(proto, field, getattr(source.proto, field))
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"the converted graph is not valid: {str(error).strip().splitlines()[0]}") from error
    clean, _ = optimize(Graph(proto, graph.parameters), ("strip_metadata",))
    del clean.proto.metadata_props[:]
    clean.proto.metadata_props.extend(source.proto.metadata_props)
    return clean


def _ordered(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Each node as early as it stands, but after those that make its inputs: the same order for the same nodes."""
    maker = {name: number for number, node in enumerate(nodes) for name in node.output if name}
    done: dict[int, None] = {}
    for first in range(len(nodes)):
        waiting = [first]
        while waiting:
            number = waiting[-1]
            before = (maker.get(name, number) for name in _reads(nodes[number]))
            missing = [other for other in before if other != number and other not in done]
            if missing and not set(missing) & set(waiting):  # a cycle is left to the checker
                waiting += reversed(missing)
            else:
                done.setdefault(waiting.pop())
    return [nodes[number] for number in done]


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    yield from node.input
    for attribute in node.attribute:  # branches of If, bodies of Loop: they see the names around them
        for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for part in inner.node:
                yield from _reads(part)
