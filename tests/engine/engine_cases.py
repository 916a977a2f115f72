"""What these tests share: small ONNX graphs, run as they are, with the plan's plain interpreter, and by the library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from ntksap_export.engine import Converted, available, convert, plan_from_bytes, plans, register
from ntksap_export.engine.operators import Plan
from ntksap_export.graph import Graph
from tests.engine.reference import run_plan

Array = npt.NDArray[Any]
FLOAT = onnx.TensorProto.FLOAT


class SparseBody(OpRun):
    """The engine's node as onnx's reference evaluator runs it: by the plain interpreter."""

    op_domain = "ntksap_export"

    def _run(self, *inputs: Array) -> tuple[Array, ...]:
        return tuple(value.astype(np.float32) for value in run_plan(inputs[-1].tobytes(), inputs[:-1]))


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """`node("Conv", "x w", "y", group=2)`; `_` leaves an input out."""
    given = ["" if name == "_" else name for name in inputs.split()]
    return helper.make_node(op, given, outputs.split(), name=f"the_{outputs.split()[0]}", **attributes)


def graph_of(
    nodes: Sequence[onnx.NodeProto],
    stored: Mapping[str, Array],
    shape: Sequence[int | str] = ("batch", 3, 8, 8),
    outputs: str = "y",
    opset: int = 20,
    ir_version: int = 10,
) -> Graph:
    """A graph whose one input is `x`; its outputs' shapes are left to onnx."""
    made = [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs.split()]
    initializers = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    inputs = [helper.make_tensor_value_info("x", FLOAT, shape)]
    if ir_version < 4:
        inputs += [helper.make_tensor_value_info(item.name, item.data_type, item.dims) for item in initializers]
    proto = helper.make_model(
        helper.make_graph(list(nodes), "small", inputs, made, initializers),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=ir_version,
    )
    proto = onnx.shape_inference.infer_shapes(proto)
    proto.graph.ClearField("value_info")
    onnx.checker.check_model(proto)
    return Graph(proto, tuple(stored))


def images(*shape: int, seed: int = 0) -> Array:
    """Normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def drawn(*shape: int, seed: int = 1, density: float = 1.0) -> Array:
    """A weight of which a share is not zero, small enough to keep what it makes near 1."""
    draw = np.random.default_rng(seed)
    fan = max(int(np.prod(shape[1:])), 1)
    values = draw.standard_normal(shape) / np.sqrt(fan)
    return np.where(draw.random(shape) < density, values, 0).astype(np.float32)


def run_dense(graph: Graph, x: Array) -> list[Array]:
    """By onnxruntime, without its optimisations."""
    return _run(graph, x, _options())


def run_engine(converted: Converted, x: Array) -> list[Array]:
    """By onnxruntime with the engine's library."""
    options = _options()
    register(options)
    return _run(converted.graph, x, options)


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return options


def _run(graph: Graph, x: Array, options: onnxruntime.SessionOptions) -> list[Array]:
    session = onnxruntime.InferenceSession(graph.to_bytes(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: x}))


def run_converted(converted: Converted, x: Array) -> list[Array]:
    """By onnx's reference evaluator around the plain interpreter."""
    evaluator = ReferenceEvaluator(converted.graph.proto, new_ops=[SparseBody])
    return list(evaluator.run(None, {evaluator.input_names[0]: x}))


def difference(got: Sequence[Array], wanted: Sequence[Array]) -> float:
    """The largest, relative to the scale of what was wanted."""
    assert [value.shape for value in wanted] == [value.shape for value in got]
    scales = (max(float(np.abs(value).max()), 1e-6) for value in wanted)
    return max(float(np.abs(a - b).max()) / scale for a, b, scale in zip(got, wanted, scales, strict=True))


def agreed(graph: Graph, x: Array, tolerance: float = 1e-4) -> Converted:
    """Convert, and check that the plain interpreter, and the library where it is built, compute the same."""
    converted = convert(graph)
    wanted = run_dense(graph, x)
    assert difference(run_converted(converted, x), wanted) < tolerance
    if available():
        assert difference(run_engine(converted, x), wanted) < tolerance
    return converted


def only_plan(converted: Converted) -> Plan:
    """The plan of a graph with one SparseBody."""
    (stored,) = plans(converted.graph).values()
    return plan_from_bytes(stored)


def kinds(converted: Converted) -> list[str]:
    """The operators of its one plan."""
    return [type(operator).__name__ for operator in only_plan(converted).operators]
