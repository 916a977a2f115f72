"""Write a true zero for each subnormal number, and for each negative zero of a weight.

    w' = 0 if 0 < |w| < smallest normal of its type, else w                float32 and float64
    w' = +0 if w = -0 and w is a factor of Conv, ConvTranspose, Gemm or MatMul    these and float16

A network that was pruned and trained leaves tiny numbers in biases and dead channels; arithmetic on them runs 10 to 40
times slower on many CPUs. The largest change is 1.2e-38 (float32), far below rounding. float16's own subnormals, from
6e-8 to 6.1e-5, are left: CPUs compute float16 in float32, where they are normal, and GPUs at full speed, while flushing
them moves logits by 4e-6.

Folding a BatchNorm whose gamma is negative makes -0 of a pruned weight, which has a bit set: what stores or skips zeros
by their bits then keeps it. In a sum of products a factor -0 for +0 changes the sign of a zero term, so that at most
the sign of a sum that is zero changes; elsewhere (1 / -0, say) the sign may matter, and -0 stays.

Initializers and the values of Constant nodes are changed; those inside subgraphs, sparse ones (`graph.with_dense` makes
them dense), and types other than float16, float32 and float64 are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ntksap_export.graph.analysis import FLOATS, Index
from ntksap_export.graph.passes.outcome import Left, Outcome

_FACTORS: Final = {"Conv": (1,), "ConvTranspose": (1,), "Gemm": (0, 1), "MatMul": (0, 1)}  # operator -> its inputs


def apply_(proto: onnx.ModelProto) -> Outcome:
    """Flush float32 and float64 constants of `proto` in place; exact zeros stay zeros."""
    index = Index(proto)
    rows = []
    for name, item in _tensors(index):
        if item.data_type not in FLOATS:
            continue
        values = numpy_helper.to_array(item)
        tiny = (values != 0) & (np.abs(values) < _smallest(item.data_type))
        negative = np.signbit(values) & (values == 0) & _is_factor(index, name)
        if tiny.any() or negative.any():
            rows.append({"what": name, "subnormals": int(tiny.sum()), "negative_zeros": int(negative.sum())})
            clean = np.where(tiny | negative, 0, values).astype(values.dtype)
            item.CopyFrom(numpy_helper.from_array(clean, item.name))
    return Outcome(_said(rows), tuple(rows), tuple(_sparse(proto)))


def _smallest(kind: int) -> float:
    """What is below it is flushed; nothing of a float16."""
    return (
        0.0
        if kind == onnx.TensorProto.FLOAT16
        else float(np.finfo(helper.tensor_dtype_to_np_dtype(kind)).smallest_normal)
    )


def _tensors(index: Index) -> Iterator[tuple[str, onnx.TensorProto]]:
    yield from ((item.name, item) for item in index.proto.graph.initializer)
    for at, node in enumerate(index.nodes):
        if node.op_type == "Constant" and index.is_standard(at):
            yield from ((node.output[0], item.t) for item in node.attribute if item.name == "value")


def _is_factor(index: Index, name: str) -> bool:
    """Whether all who read the value multiply by it and add up."""
    readers = index.readers(name)
    return (
        bool(readers)
        and not index.is_seen(name)
        and all(index.is_standard(at) and place in _FACTORS.get(index.nodes[at].op_type, ()) for at, place in readers)
    )


def _said(rows: list[dict[str, object]]) -> str:
    subnormals, negative = (sum(int(str(row[key])) for row in rows) for key in ("subnormals", "negative_zeros"))
    return f"{subnormals} subnormal values set to zero, {negative} negative zeros of weights made positive"


def _sparse(proto: onnx.ModelProto) -> Iterator[Left]:
    for item in proto.graph.sparse_initializer:
        yield Left(item.values.name, "it is a sparse initializer; `ntksap convert` makes it dense")
