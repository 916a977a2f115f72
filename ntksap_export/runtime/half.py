"""fp16 through onnxruntime.transformers.float16: half the bytes; on a CPU computed in float32 and rounded between.

Weights become the nearest fp16, activations too, so both must stay below 65504: weights are checked, activations are
measured on images. Operators that have no fp16 stay float32, with a Cast before and behind.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ntksap_export.errors import ExportError
from ntksap_export.graph import Graph
from ntksap_export.graph.precision import FP16_LARGEST, check_fp16, check_fp16_range, tidy, without_tiny
from ntksap_export.runtime.quantize import calibrate, largest, quiet, tools
from ntksap_export.runtime.session import Images

_HEADROOM: Final = 2.0  # other images may reach further than those that were looked at


def to_fp16(graph: Graph, *, float_io: bool = True) -> Graph:
    """The graph in fp16.

    Args:
        graph: float32.
        float_io: images and logits stay float32, with a Cast at either end; else they are fp16 too.

    Raises:
        ExportError: a weight is beyond fp16, or the converter cannot take the graph.
    """
    check_fp16_range(graph)
    _, library = tools()
    source = without_tiny(graph)  # a copy: the converter changes what it is given
    try:
        with quiet():
            proto = library.convert_float_to_float16(source.proto, keep_io_types=float_io)
    except Exception as error:  # the converter raises many kinds; all mean that it cannot take this graph
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ExportError(f"the graph cannot be written in fp16: {reason}; leave --fp16 away") from error
    half = tidy(Graph(proto, graph.parameters), graph)
    check_fp16(half, graph)
    return half


def check_activations(graph: Graph, batches: Iterable[Images]) -> float:
    """The largest activation over the batches.

    Raises:
        ExportError: it is beyond half of fp16's range; the tensor is named.
    """
    found = largest(calibrate(graph, batches, "minmax"))
    name = max(found, key=lambda key: found[key])
    if not found[name] * _HEADROOM <= FP16_LARGEST:
        raise ExportError(
            f"'{name}' reaches {found[name]:.4g} on these images, and fp16 ends at {FP16_LARGEST:g}; "
            "leave --fp16 away, or scale the layers before it"
        )
    return found[name]
