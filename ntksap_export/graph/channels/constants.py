"""What an elementwise operator makes of a constant: the operator itself is run, by ONNX's reference, on one place.

In the graph's own type, so that it is the number that a runtime would get, to a rounding of its exp or erf.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from ntksap_export.graph.analysis import Array, Index
from ntksap_export.graph.channels.values import Numbers


def run_once(index: Index, at: int, operands: Sequence[Array | None]) -> Numbers:
    """The node's first output for these operands.

    Args:
        index: of the model.
        at: an elementwise node.
        operands: (1, C, 1, ...) each, or what broadcasts with it; NaN is no constant and gives none. None: left out.

    Returns:
        (C,) in float64; NaN where the operator gives no finite number, or the reference cannot run it.
    """
    node = index.nodes[at]
    names = [f"x{place}" if value is not None else "" for place, value in enumerate(operands)]
    feeds: Mapping[str, Array] = {name: value for name, value in zip(names, operands, strict=True) if value is not None}
    inner = helper.make_node(node.op_type, names, ["y"])
    inner.attribute.extend(node.attribute)
    kinds = {name: helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in feeds.items()}
    graph = helper.make_graph(
        [inner],
        "once",
        [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()],
        [helper.make_tensor_value_info("y", next(iter(kinds.values())), None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", index.opset)])
    try:
        with np.errstate(all="ignore"):
            (result, *_) = ReferenceEvaluator(model).run(None, dict(feeds))
            found = np.asarray(result)
    except Exception:
        return np.full(max(value.shape[1] if value.ndim > 1 else 1 for value in feeds.values()), np.nan)
    flat = found.astype(np.float64).ravel()
    return np.where(np.isfinite(flat), flat, np.nan)


def one_place(constant: Numbers, rank: int, kind: int) -> Array:
    """A value's constants as (1, C, 1, ...) of an element type of ONNX."""
    with np.errstate(all="ignore"):
        typed = constant.astype(helper.tensor_dtype_to_np_dtype(kind))
    return typed.reshape(1, -1, *[1] * (rank - 2))


def is_float(kind: int) -> bool:
    """Whether it is a type whose constants are followed."""
    return kind in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16)
