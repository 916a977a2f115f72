"""ONNX nodes to steps: one for each node that the engine covers, a reason for each other.

A new operator is one function and one line of `OPERATORS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ntksap_export.engine import lower_elementwise as elementwise
from ntksap_export.engine import lower_pools as pools
from ntksap_export.engine import lower_products as products
from ntksap_export.engine import lower_shapes as shapes
from ntksap_export.engine.look import Look
from ntksap_export.engine.operators import Tensor
from ntksap_export.engine.plan_reader import MOST_CHANNELS, MOST_SIDE, MOST_SIZE
from ntksap_export.engine.steps import Step, UncoveredError
from ntksap_export.graph.analysis import Index

OPERATORS: Final[dict[str, Callable[[Look, int], Step]]] = {
    "Add": elementwise.add,
    "AveragePool": pools.average_pool,
    "BatchNormalization": products.batch_norm,
    "Clip": elementwise.act,
    "Concat": shapes.concat,
    "Conv": products.conv,
    "Div": elementwise.div,
    "Dropout": shapes.same,
    "Elu": elementwise.act,
    "Flatten": shapes.flatten,
    "Gemm": products.gemm,
    "GlobalAveragePool": pools.global_average,
    "GlobalMaxPool": pools.global_max,
    "HardSigmoid": elementwise.act,
    "HardSwish": elementwise.act,
    "Identity": shapes.same,
    "LeakyRelu": elementwise.act,
    "MatMul": products.matmul,
    "MaxPool": pools.max_pool,
    "Mul": elementwise.mul,
    "Neg": elementwise.neg,
    "PRelu": elementwise.act,
    "Pad": pools.pad,
    "ReduceMax": pools.reduce_max,
    "ReduceMean": pools.reduce_mean,
    "Relu": elementwise.act,
    "Reshape": shapes.reshape,
    "Sigmoid": elementwise.act,
    "Squeeze": shapes.squeeze,
    "Sub": elementwise.sub,
    "Sum": elementwise.add,
    "Swish": elementwise.act,
    "Tanh": elementwise.act,
    "Unsqueeze": shapes.unsqueeze,
}


@dataclass(frozen=True, slots=True)
class Lowered:
    """What became of a graph's nodes, by their numbers.

    Attributes:
        steps: of those that are covered, in order.
        reasons: why each other stays.
        folded: those that only compute constants; neither covered nor left.
        shapes: of every value that a step reads or makes, by its name.
    """

    steps: dict[int, Step]
    reasons: dict[int, str]
    folded: frozenset[int]
    shapes: dict[str, Tensor]


def lower(index: Index) -> Lowered:
    """Look at each node by itself, in order."""
    look = Look(index)
    steps: dict[int, Step] = {}
    reasons: dict[int, str] = {}
    for at, node in enumerate(index.nodes):
        if at in look.folded or not any(node.output):
            continue
        try:
            steps[at] = step = _lowered(look, at)
            look.note(step.output, step.made, look.batch(step.inputs[0]))
        except UncoveredError as error:
            reasons[at] = str(error)
            look.left(at)
    return Lowered(steps, reasons, frozenset(look.folded), look.shapes())


def _lowered(look: Look, at: int) -> Step:
    index, node = look.index, look.index.nodes[at]
    if not index.is_standard(at) or node.op_type not in OPERATORS:
        raise UncoveredError("operator not covered")
    if any(index.readers(name) or index.is_seen(name) for name in node.output[1:] if name):
        raise UncoveredError("more than its first output is used")
    if not index.readers(node.output[0]) and not index.is_seen(node.output[0]):
        raise UncoveredError("nothing reads its output")
    step = OPERATORS[node.op_type](look, at)
    made = step.made
    if made.channels > MOST_CHANNELS or max(made.height, made.width) > MOST_SIDE or made.size > MOST_SIZE:
        raise UncoveredError(
            f"its output ({made.channels}, {made.height}, {made.width}) is larger than the engine's limit"
        )
    _check_inferred(look, at, made)
    return step


def _check_inferred(look: Look, at: int, made: Tensor) -> None:
    """Where onnx has another opinion about the shape, as of some pools with `ceil_mode`, runtimes may have, too."""
    shape = look.inferred(look.index.nodes[at].output[0])
    ours = (made.channels, made.height, made.width)[: made.rank - 1]
    if shape is None:
        return
    theirs = shape[1:]
    if len(theirs) != len(ours) or any(
        isinstance(size, int) and size != own for size, own in zip(theirs, ours, strict=True)
    ):
        look.dispute(at)
        raise UncoveredError(f"onnx gives it the shape {shape}; expected (N, {', '.join(map(str, ours))})")
