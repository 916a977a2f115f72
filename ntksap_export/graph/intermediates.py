"""What a graph computes on its way: its nodes in order, and a copy that also answers with values between them."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import onnx

from ntksap_export.graph.model import Graph


@dataclass(frozen=True, slots=True)
class Step:
    """One node of the outermost graph.

    Attributes:
        name: of the node, or of its first output where it has none.
        op_type: the operator.
        inputs: names of the values it reads that are no initializers.
        parameters: names of the initializers it reads.
        outputs: names of the values it computes.
    """

    name: str
    op_type: str
    inputs: tuple[str, ...]
    parameters: tuple[str, ...]
    outputs: tuple[str, ...]


def steps(graph: Graph) -> tuple[Step, ...]:
    """The nodes in the order in which they are computed."""
    proto = graph.proto.graph
    stored = {item.name for item in proto.initializer} | {item.values.name for item in proto.sparse_initializer}
    found = []
    for node in proto.node:
        outputs = tuple(name for name in node.output if name)
        inputs = tuple(name for name in node.input if name and name not in stored)
        parameters = tuple(name for name in node.input if name in stored)
        found.append(Step(node.name or outputs[0], node.op_type, inputs, parameters, outputs))
    return tuple(found)


def exposed(graph: Graph, values: Iterable[str]) -> Graph:
    """A copy whose outputs are the graph's own and then `values`, without their types: a runtime infers these."""
    proto = copy.deepcopy(graph.proto)
    there = {item.name for item in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in values if name not in there)
    return Graph(proto, graph.parameters)
