"""A graph whose convolutional body is one node of the sparse engine.

    ntksap_export::SparseBody(activation, ..., plan) -> (value, ...)        domain version 1

The plan is an initializer of bytes that holds the weights; those of the graph that nobody else uses go. What is not
covered stays as it is, around the body: there may be several, none of which is left and entered again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
from onnx import helper

from ntksap_export.engine.library import ENGINE_DOMAIN
from ntksap_export.engine.lower import Lowered, lower
from ntksap_export.engine.merge import merged
from ntksap_export.engine.number import numbered
from ntksap_export.engine.operators import Tensor
from ntksap_export.engine.plan_bytes import plan_to_bytes
from ntksap_export.engine.regions import in_order, regions
from ntksap_export.engine.steps import Step
from ntksap_export.errors import ExportError
from ntksap_export.graph import Graph, with_dense
from ntksap_export.graph.analysis import Index, captured
from ntksap_export.graph.files import check_valid
from ntksap_export.quoting import first_line, printable

ENGINE_OPERATOR: Final = "SparseBody"
ENGINE_VERSION: Final = 1
_LISTED_BELOW: Final = 4  # IR version; before it, initializers are listed among the inputs, too


@dataclass(frozen=True, slots=True)
class Left:
    """A node that stays with onnxruntime; as text one line for a log."""

    node: str
    op_type: str
    reason: str

    def __str__(self) -> str:
        return printable(f"node {self.node} ({self.op_type}): {self.reason}")


@dataclass(frozen=True, slots=True)
class Converted:
    """A graph with SparseBody nodes, and what did not go into them.

    Attributes:
        graph: runs where the engine's library is registered.
        covered: names of the nodes that the engine runs, in order.
        left: the others, with the reason; those that only compute constants are in neither.
        regions: number of SparseBody nodes.
    """

    graph: Graph
    covered: tuple[str, ...]
    left: tuple[Left, ...]
    regions: int

    def __str__(self) -> str:
        calls = f"{self.regions} call{'s' * (self.regions > 1)}"
        return f"engine: {len(self.covered)} of {len(self.covered) + len(self.left)} nodes in {calls}"

    def lines(self, most: int = 5) -> tuple[str, ...]:
        """The line, and one for each node left, `most` at the most."""
        rest = len(self.left) - most
        more = (f"  left: {rest} more",) if rest > 0 else ()
        return (str(self), *(f"  left: {item}" for item in self.left[:most]), *more)


def convert(graph: Graph) -> Converted:
    """The graph with its convolutional body in the engine's node.

    Args:
        graph: any valid one, of float32; left untouched.

    Raises:
        ExportError: nothing in it can be covered; says why.
    """
    graph = with_dense(graph, Path("the graph"))
    index = Index(graph.proto)
    lowered = lower(index)
    before = [_makers(index, at) for at in range(len(index.nodes))]
    groups = regions(before, lowered.steps)
    paying = [group for group in groups if any(lowered.steps[at].weighted for at in group)]
    covered = {at for group in paying for at in group}
    left = tuple(_left(index, lowered, at) for at in range(len(index.nodes)) if at not in covered | lowered.folded)
    if not paying:
        raise ExportError(_nothing(left))
    bodies = [_body(index, lowered, group, number) for number, group in enumerate(paying)]
    proto = _rebuilt(index, before, paying, bodies)
    try:
        check_valid(proto)
    except onnx.checker.ValidationError as error:
        raise ExportError(
            f"the sparse engine's graph is not valid ({first_line(error)}); this is a bug, use the dense graph"
        ) from error
    there = {item.name for item in proto.graph.initializer}
    return Converted(
        Graph(proto, tuple(name for name in graph.parameters if name in there)),
        tuple(_name(index, at) for at in sorted(covered)),
        left,
        len(paying),
    )


def plans(graph: Graph) -> dict[str, bytes]:
    """The plan of each SparseBody node, under its first output's name."""
    stored = {item.name: item for item in graph.proto.graph.initializer}
    nodes = (node for node in graph.proto.graph.node if node.domain == ENGINE_DOMAIN)
    return {node.output[0]: stored[node.input[-1]].raw_data for node in nodes}


@dataclass(frozen=True, slots=True)
class _Body:
    node: onnx.NodeProto
    plan: onnx.TensorProto
    notes: tuple[onnx.ValueInfoProto, ...]


def _body(index: Index, lowered: Lowered, group: tuple[int, ...], number: int) -> _Body:
    steps = [lowered.steps[at] for at in group]
    inside = frozenset(group)
    made = {step.output for step in steps}
    shapes: dict[str, Tensor] = {step.output: step.made for step in steps}
    inputs = {name: lowered.shapes[name] for step in steps for name in step.inputs if name not in made}
    outputs = [step.output for step in steps if _leaves(index, step, inside)]
    types = {name: shapes[name] for name in outputs}
    plan = plan_to_bytes(numbered(merged(steps, outputs), inputs, outputs))
    name = index.fresh(f"sparse_body_{number}")
    stored = onnx.TensorProto(
        name=index.fresh(f"{name}.plan"), data_type=onnx.TensorProto.UINT8, dims=[len(plan)], raw_data=plan
    )
    node = helper.make_node(ENGINE_OPERATOR, [*inputs, stored.name], outputs, name=name, domain=ENGINE_DOMAIN)
    return _Body(node, stored, tuple(_note(index, name, tensor) for name, tensor in types.items()))


def _leaves(index: Index, step: Step, inside: Collection[int]) -> bool:
    outside = any(reader not in inside for reader, _ in index.readers(step.output))
    return outside or index.is_seen(step.output)


def _note(index: Index, name: str, tensor: Tensor) -> onnx.ValueInfoProto:
    shape = index.shapes.get(name)
    batch = shape[0] if shape else None
    sizes = (tensor.channels, tensor.height, tensor.width)[: tensor.rank - 1]
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, *sizes])


def _rebuilt(
    index: Index, before: list[tuple[int, ...]], groups: list[tuple[int, ...]], bodies: list[_Body]
) -> onnx.ModelProto:
    """The model with each group's nodes replaced; what nobody reads any more is gone."""
    place = {at: group[0] for group in groups for at in group}
    makers: dict[int, set[int]] = {}
    for at, found in enumerate(before):
        own = place.get(at, at)
        makers.setdefault(own, set()).update(place.get(maker, maker) for maker in found)
        makers[own].discard(own)
    replaced = {group[0]: body.node for group, body in zip(groups, bodies, strict=True)}
    nodes = [replaced.get(at, index.nodes[at]) for at in in_order(makers)]
    nodes = _in_use(index, nodes)
    return _model(index, nodes, bodies)


def _in_use(index: Index, nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Without those that only fed what is in the plans now."""
    needed = set(index.outputs) | index.captured
    kept = []
    for node in reversed(nodes):
        read_before = any(index.readers(name) for name in node.output if name)
        if not read_before or any(name in needed for name in node.output):
            kept.append(node)
            needed.update(node.input)
    return kept[::-1]


def _model(index: Index, nodes: list[onnx.NodeProto], bodies: list[_Body]) -> onnx.ModelProto:
    source = index.proto
    proto = onnx.ModelProto()
    for field, value in source.ListFields():
        if field.name not in ("graph", "opset_import"):
            _copy(proto, field.name, value)
    for item in source.opset_import:
        if item.domain != ENGINE_DOMAIN:
            proto.opset_import.append(item)
    proto.opset_import.append(helper.make_opsetid(ENGINE_DOMAIN, ENGINE_VERSION))
    graph, old = proto.graph, source.graph
    for field, value in old.ListFields():
        if field.name not in ("node", "initializer", "value_info", "input"):
            _copy(graph, field.name, value)
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input} | index.outputs | index.captured
    made = {name for node in nodes for name in node.output}
    dropped = {item.name for item in old.initializer if item.name not in used}
    graph.initializer.extend(item for item in old.initializer if item.name not in dropped)
    graph.initializer.extend(body.plan for body in bodies)
    graph.input.extend(value for value in old.input if value.name not in dropped)
    notes = {note.name: note for body in bodies for note in body.notes if note.name not in index.outputs}
    known = {value.name for value in old.value_info}
    graph.value_info.extend(notes.get(item.name, item) for item in old.value_info if item.name in made | used)
    graph.value_info.extend(note for name, note in notes.items() if name not in known)
    if proto.ir_version < _LISTED_BELOW:
        graph.input.extend(
            helper.make_tensor_value_info(body.plan.name, body.plan.data_type, body.plan.dims) for body in bodies
        )
    return proto


def _copy(target: onnx.ModelProto | onnx.GraphProto, name: str, value: object) -> None:
    if isinstance(value, (str, int)):
        setattr(target, name, value)
    else:
        getattr(target, name).MergeFrom(value)


def _makers(index: Index, at: int) -> tuple[int, ...]:
    found = (index.maker(name) for name in (*index.nodes[at].input, *captured(index.nodes[at])) if name)
    return tuple(sorted({maker for maker in found if maker is not None}))


def _left(index: Index, lowered: Lowered, at: int) -> Left:
    reason = lowered.reasons.get(at, "no convolution or product beside it that the engine runs")
    return Left(_name(index, at), index.nodes[at].op_type, reason)


def _name(index: Index, at: int) -> str:
    node = index.nodes[at]
    return str(node.name or next((name for name in node.output if name), "?"))


def _nothing(left: Iterable[Left]) -> str:
    """What keeps a layer with weights out says more than the rest."""
    found = sorted(left, key=lambda item: item.op_type not in ("Conv", "Gemm", "MatMul"))
    return f"nothing in the graph is for the sparse engine: {found[0] if found else 'it has no nodes'}"
