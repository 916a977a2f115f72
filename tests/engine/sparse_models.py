"""Small ONNX models with a node of the engine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Dims = Sequence[int | str | None]


def sparse_model(
    plan: bytes | np.ndarray,
    inputs: Sequence[Dims],
    outputs: int = 1,
    *,
    element: int = TensorProto.FLOAT,
    plan_is_input: bool = False,
    inner: Sequence[onnx.ValueInfoProto] = (),
    after: Sequence[onnx.NodeProto] = (),
    out: Sequence[str] | None = None,
) -> bytes:
    """A model of one SparseBody, x0, x1, ... to y0, y1, ...; `after` stands behind it.

    Args:
        plan: its bytes, or an array in their place.
        inputs: shapes of the graph's inputs.
        outputs: of the node.
        element: type of the inputs.
        plan_is_input: the plan is an initializer that a caller may replace.
        inner: what the graph tells about its inner tensors.
        after: further nodes.
        out: names of the graph's outputs; None: the node's.
    """
    names = [f"x{i}" for i in range(len(inputs))]
    made = [f"y{i}" for i in range(outputs)]
    array = np.frombuffer(plan, np.uint8) if isinstance(plan, bytes) else plan
    values = [helper.make_tensor_value_info(name, element, dims) for name, dims in zip(names, inputs, strict=True)]
    if plan_is_input:
        values.append(helper.make_tensor_value_info("plan", TensorProto.UINT8, array.shape))
    graph = helper.make_graph(
        [helper.make_node("SparseBody", [*names, "plan"], made, domain="ntksap_export"), *after],
        "body",
        values,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in out or made],
        [numpy_helper.from_array(array, "plan")],
        value_info=list(inner),
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ntksap_export", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
