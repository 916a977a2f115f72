"""Follow channels through a graph: one literal table from operator to what it does with them.

An operator that is not in the table, or is used in a way that is not followed, reads all its channels: they stay, and
what it makes is known no further than its shape.
"""

from __future__ import annotations

from typing import Final

from ntksap_export.graph.analysis import Index
from ntksap_export.graph.channels import operators
from ntksap_export.graph.channels.follow import Channels, Handler, follow_layer
from ntksap_export.graph.channels.layers import LAYERS

_MAPS: Final = (
    "Abs", "Celu", "Clip", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Neg",
    "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Softplus", "Softsign", "Sqrt", "Swish", "Tanh",
    "ThresholdedRelu",
)  # fmt: skip
_SUMS: Final = ("Add", "Div", "Max", "Mean", "Min", "Mul", "PRelu", "Sub", "Sum")

HANDLERS: Final[dict[str, Handler]] = {
    **dict.fromkeys(LAYERS, follow_layer),
    **dict.fromkeys(_MAPS, operators.follow_map),
    **dict.fromkeys(_SUMS, operators.follow_sum),
    **dict.fromkeys(("Identity", "Dropout", "Cast"), operators.follow_same),
    **dict.fromkeys(("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"), operators.follow_pool),
    **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum"), operators.follow_reduction),
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), operators.follow_flatten),
    "BatchNormalization": operators.follow_norm,
    "Concat": operators.follow_concat,
    "Pad": operators.follow_pad,
    "Resize": operators.follow_resize,
}


def follow(index: Index) -> Channels:
    """Walk the graph once, in its order."""
    channels = Channels(index)
    for at, node in enumerate(index.nodes):
        handler = HANDLERS.get(node.op_type) if index.is_standard(at) else None
        reason = "this operator is not followed" if handler is None else handler(channels, at)
        if node.op_type == "Constant" or reason is None:
            continue
        for name in node.input:
            if name in channels.values:
                channels.pinned.append((channels.values[name].ids, f"{channels.title(at)} reads it: {reason}"))
    for name, value in channels.values.items():
        if name in index.outputs:
            channels.pinned.append((value.ids, f"'{name}' is an output of the graph"))
        elif name in index.captured:
            channels.pinned.append((value.ids, f"'{name}' is read by a subgraph"))
    return channels
