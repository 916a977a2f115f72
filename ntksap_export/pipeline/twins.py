"""Graphs to be timed beside a sparse one: its dense twin, and graphs in fewer bits whose answers nobody asks for."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Final

import numpy as np
import onnx

from ntksap_export.errors import ConfigError
from ntksap_export.graph import Graph, dense_twin, read_preprocessing
from ntksap_export.graph.precision import named, precision_of
from ntksap_export.hardware import cpu_flags
from ntksap_export.masks import Mask
from ntksap_export.runtime.half import to_fp16
from ntksap_export.runtime.quantize import calibrate, needs_reduced, quantize
from ntksap_export.runtime.session import Images

_CALIBRATED_ON: Final = 2  # images of noise: times do not depend on ranges
_ROUNDED_TO_ZERO: Final = 0.2  # of a dense network's int8 weights; of normal ones 1 to 3 %
_TYPES: Final = {1: "float32", 10: "float16", 2: "uint8"}  # onnx.TensorProto's numbers

Shape = tuple[int, int, int]


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
    ranges = calibrate(graph, [_noise(graph, shape)], "minmax")
    return quantize(graph, ranges, reduced=needs_reduced(cpu_flags(), platform.machine()))


def input_shape(graph: Graph, image_size: int | None) -> Shape:
    """(C, H, W) of what the graph takes, whatever its layout.

    Args:
        graph: with one input of images.
        image_size: side in pixels, where the graph leaves it open.

    Raises:
        ConfigError: the input is none of images, its size is not known, or it is another than `image_size`.
    """
    inputs = _inputs(graph)
    if len(inputs) != 1:
        raise ConfigError(f"the graph has {len(inputs)} inputs; only graphs with one image input can be profiled")
    told = inputs[0].type.tensor_type
    sides = [axis.dim_value for axis in told.shape.dim]
    if len(sides) != 4:
        raise ConfigError(f"the graph's input has {len(sides)} axes; images (N, C, H, W) are expected")
    if told.elem_type not in _TYPES:
        raise ConfigError(f"the graph's input is none of images: its type must be {', '.join(_TYPES.values())}")
    last = is_channels_last(graph)
    places = (3, 1, 2) if last else (1, 2, 3)
    channels, *found = (sides[place] for place in places)
    preprocessing = read_preprocessing(graph.proto)
    usual = (image_size, image_size) if image_size or preprocessing is None else preprocessing.size
    height, width = (side or other for side, other in zip(found, usual, strict=True))
    for name, place, side in (("height", places[1], height), ("width", places[2], width)):
        if not side:
            raise ConfigError(
                f"the graph leaves the {name} (axis {place}) of its input open; give it with --image-size"
            )
        if image_size not in (None, side):
            raise ConfigError(
                f"the graph's input has a fixed {name} (axis {place}) of {side}; got --image-size {image_size}, "
                "leave it away"
            )
    assert height
    assert width
    return channels or 3, height, width


def is_channels_last(graph: Graph) -> bool:
    """Whether the input is (N, H, W, C): its metadata say so, or only the last axis can be that of the channels."""
    if (told := read_preprocessing(graph.proto)) is not None:
        return told.layout == "NHWC"
    sides = [axis.dim_value for axis in _inputs(graph)[0].type.tensor_type.shape.dim]
    return len(sides) == 4 and sides[3] in (1, 3) and sides[1] not in (1, 3)


def _inputs(graph: Graph) -> list[onnx.ValueInfoProto]:
    """What the caller must give; older graphs list their initializers among the inputs."""
    fixed = {item.name for item in graph.proto.graph.initializer}
    return [value for value in graph.proto.graph.input if value.name not in fixed]


def _noise(graph: Graph, shape: Shape) -> Images:
    draw, taken = np.random.default_rng(0), _inputs(graph)[0].type.tensor_type
    sides = (shape[1], shape[2], shape[0]) if is_channels_last(graph) else shape
    batched = (taken.shape.dim[0].dim_value or _CALIBRATED_ON, *sides)
    if _TYPES[taken.elem_type] == "uint8":
        return draw.integers(0, 256, batched, dtype=np.uint8)
    return draw.standard_normal(batched, dtype=np.float32)
