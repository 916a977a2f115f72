"""Graphs to be timed beside a sparse one: its dense twin, and graphs in fewer bits whose answers nobody asks for."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Final

import numpy as np

from ntksap_export.graph import Graph, dense_twin
from ntksap_export.graph.image_input import Shape, image_input
from ntksap_export.graph.precision import named, precision_of
from ntksap_export.hardware import cpu_flags
from ntksap_export.masks import Mask
from ntksap_export.runtime.half import to_fp16
from ntksap_export.runtime.quantize import calibrate, needs_reduced, quantize
from ntksap_export.runtime.session import Images

_CALIBRATED_ON: Final = 2  # images of noise: times do not depend on ranges
_ROUNDED_TO_ZERO: Final = 0.2  # of a dense network's int8 weights; of normal ones 1 to 3 %


def twin_of(graph: Graph, mask: Mask | None, slim: bool, whole: Callable[[], Graph]) -> Graph:
    """The dense network beside a sparse one: all its channels, random weights in place of zeros.

    Args:
        graph: the sparse one; its twin has the same opset and input.
        mask: of its weights.
        slim: whether channels went before it was exported.
        whole: exports the network with all its channels, for where a pass of the export removed some.
    """
    shapes = {name: values.shape for name, values in graph.weights()}
    compacted = mask is not None and any(shapes.get(name) != tuple(kept.shape) for name, kept in mask.items())
    return whole() if slim or compacted else dense_twin(graph)


def is_pruned(graph: Graph, sparsity: float) -> bool:
    """Whether zeros of such a share were put there; in int8 some of a dense network's weights round to zero."""
    return sparsity > (_ROUNDED_TO_ZERO if precision_of(graph) == "int8" else 0.0)


def lowered(graph: Graph, precision: str, shape: Shape) -> Graph:
    """A float32 graph in `fp16` or `int8`, for its time alone: int8 is calibrated on noise.

    Raises:
        ExportError: it cannot be converted.
    """
    if precision == "fp16":
        return to_fp16(named(graph))
    graph = named(graph)
    ranges = calibrate(graph, [noise_for(graph, shape, _CALIBRATED_ON)], "minmax")
    return quantize(graph, ranges, reduced=needs_reduced(cpu_flags(), platform.machine()))


def noise_for(graph: Graph, shape: Shape, count: int) -> Images:
    """Noise as a graph takes its images: (count, ...), or as many as it always takes; `shape` is (C, H, W)."""
    draw, taken = np.random.default_rng(0), image_input(graph)
    sides = taken.batched(count, shape)
    if taken.dtype == "uint8":
        return draw.integers(0, 256, sides, dtype=np.uint8)
    return draw.standard_normal(sides, dtype=np.float32)
