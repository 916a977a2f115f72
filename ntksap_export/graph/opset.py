"""Which opset a graph is written in, and that it really is.

    17        stepped down from 18 here: the exporter cannot, says so in its log alone, and writes 18
    18 to 23  written by the exporter
    20        the default: IR version 10, which every onnxruntime since 1.17 loads

From 18 to 17 an operator keeps its meaning where its definition is the same at both. Of those whose definition is not,
reductions take their axes as an attribute again; any other is refused by name.
"""

from __future__ import annotations

from typing import Final

import onnx
from onnx import numpy_helper

from ntksap_export.errors import ExportError

DEFAULT: Final = 20
LOWEST: Final = 17
LOWEST_WRITTEN: Final = 18  # by torch.onnx.export(dynamo=True)
HIGHEST: Final = 23
_IR_OF_17: Final = 8
_REDUCTIONS: Final = frozenset(
    f"Reduce{kind}" for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
)


def check_known(opset: int) -> None:
    """Refuse an opset that is written by nobody here.

    Raises:
        ExportError: it is outside the range.
    """
    if not LOWEST <= opset <= HIGHEST:
        raise ExportError(f"opset must be {LOWEST} to {HIGHEST}; got {opset}. {DEFAULT} loads nearly everywhere")


def written(proto: onnx.ModelProto) -> int | None:
    """The version of the default domain that a model states."""
    return {item.domain: item.version for item in proto.opset_import}.get("")


def check_written(proto: onnx.ModelProto, opset: int) -> None:
    """The exporter may write another opset than asked for without an error; compare with the result.

    Raises:
        ExportError: they differ.
    """
    got = written(proto)
    if got != opset:
        raise ExportError(f"asked for opset {opset}, the exporter wrote {got}; choose --opset {got}")


def stepped_down(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The model at opset 17 where that was asked for and 18 written; any other as it is.

    Raises:
        ExportError: it uses an operator that 17 has not, or not with this meaning.
    """
    if opset >= LOWEST_WRITTEN or written(proto) != LOWEST_WRITTEN:
        return proto
    lower = onnx.ModelProto()
    lower.CopyFrom(proto)
    if lower.functions:
        raise ExportError(
            f"opset {opset} has no functions of version 18 ({lower.functions[0].name}); choose --opset 18"
        )
    _step_down_(lower.graph, {item.name: item for item in lower.graph.initializer})
    for item in lower.opset_import:
        if item.domain == "":
            item.version = LOWEST
    lower.ir_version = _IR_OF_17
    _drop_unused_(lower.graph)
    try:
        onnx.checker.check_model(lower)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"the graph is not valid at opset {opset}: {error}; choose --opset 18") from error
    return lower


def _step_down_(graph: onnx.GraphProto, known: dict[str, onnx.TensorProto]) -> None:
    known = {**known, **{item.name: item for item in graph.initializer}}
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                _step_down_(inner, known)
        if node.domain == "" and not _same(node.op_type):
            _adapt_(node, known)


def _same(kind: str) -> bool:
    """Whether an operator is defined alike at 17 and 18."""
    try:
        before = onnx.defs.get_schema(kind, LOWEST, "")
    except onnx.defs.SchemaError:
        return False
    return bool(before.since_version == onnx.defs.get_schema(kind, LOWEST_WRITTEN, "").since_version)


def _adapt_(node: onnx.NodeProto, known: dict[str, onnx.TensorProto]) -> None:
    if node.op_type in _REDUCTIONS:
        if len(node.input) > 1 and node.input[1]:
            axes = known.get(node.input[1])
            if axes is None:
                raise ExportError(f"{node.op_type} computes its axes, which opset 17 cannot; choose --opset 18")
            node.attribute.append(onnx.helper.make_attribute("axes", numpy_helper.to_array(axes).tolist()))
        elif any(item.name == "noop_with_empty_axes" and item.i for item in node.attribute):
            raise ExportError(f"{node.op_type} reduces nothing, which opset 17 cannot say; choose --opset 18")
        del node.input[1:]
        kept = [item for item in node.attribute if item.name != "noop_with_empty_axes"]
        rebuilt = onnx.NodeProto(attribute=kept)
        node.ClearField("attribute")
        node.MergeFrom(rebuilt)
        return
    if node.op_type == "Pad" and len(node.input) < 4:
        return  # 18 only added the axes
    raise ExportError(f"operator {node.op_type} has no form at opset 17 that means the same; choose --opset 18")


def _drop_unused_(graph: onnx.GraphProto) -> None:
    """Remove the initializers that nobody uses any more."""
    used = _used(graph)
    left = onnx.GraphProto(initializer=[item for item in graph.initializer if item.name in used])
    graph.ClearField("initializer")
    graph.MergeFrom(left)


def _used(graph: onnx.GraphProto) -> set[str]:
    names = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                names |= _used(inner)
    return names
