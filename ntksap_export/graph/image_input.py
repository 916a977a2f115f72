"""What a graph says of the images that it takes: their axes, their type, and where the channels are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import onnx

from ntksap_export.errors import ConfigError
from ntksap_export.graph.model import Graph
from ntksap_export.graph.preprocessing import read_preprocessing

Shape = tuple[int, int, int]
_TYPES: Final[dict[int, str]] = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.UINT8: "uint8",
}


@dataclass(frozen=True, slots=True)
class ImageInput:
    """The single input of a graph.

    Attributes:
        sides: of its four axes, in its own order; 0 where one is open.
        dtype: `float32`, `float16` or `uint8`.
        channels_last: whether it is (N, H, W, C).
        usual: (H, W) that its metadata name; None where they name none.
    """

    sides: tuple[int, int, int, int]
    dtype: str
    channels_last: bool
    usual: tuple[int, int] | None

    def shape(self, image_size: int | None) -> Shape:
        """(C, H, W), whatever its layout.

        Args:
            image_size: side in pixels, where the graph leaves it open.

        Raises:
            ConfigError: it is not known, or another than `image_size`.
        """
        places = (3, 1, 2) if self.channels_last else (1, 2, 3)
        usual = (image_size, image_size) if image_size or self.usual is None else self.usual
        found = []
        for name, place, other in zip(("height", "width"), places[1:], usual, strict=True):
            side = self.sides[place] or other
            if not side:
                raise ConfigError(
                    f"the graph leaves the {name} (axis {place}) of its input open; give it with --image-size"
                )
            if image_size not in (None, side):
                raise ConfigError(
                    f"the graph's input has a fixed {name} (axis {place}) of {side}; got --image-size {image_size}, "
                    "leave it away"
                )
            found.append(side)
        return self.sides[places[0]] or 3, found[0], found[1]

    def batched(self, count: int, shape: Shape) -> tuple[int, int, int, int]:
        """The axes of `count` images of `shape` (C, H, W), or of as many as it always takes."""
        channels, height, width = shape
        number = self.sides[0] or count
        return (number, height, width, channels) if self.channels_last else (number, channels, height, width)


def image_input(graph: Graph) -> ImageInput:
    """What the graph takes.

    Raises:
        ConfigError: it is none of images.
    """
    fixed = {item.name for item in graph.proto.graph.initializer}  # older graphs list them among the inputs
    inputs = [value for value in graph.proto.graph.input if value.name not in fixed]
    if len(inputs) != 1:
        raise ConfigError(f"the graph has {len(inputs)} inputs; only graphs with one image input can be profiled")
    told = inputs[0].type.tensor_type
    axes = [axis.dim_value for axis in told.shape.dim]
    if len(axes) != 4:
        raise ConfigError(f"the graph's input has {len(axes)} axes; images (N, C, H, W) are expected")
    if told.elem_type not in _TYPES:
        raise ConfigError(f"the graph's input is none of images: its type must be {', '.join(_TYPES.values())}")
    sides = (axes[0], axes[1], axes[2], axes[3])
    known = read_preprocessing(graph.proto)
    last = known.layout == "NHWC" if known is not None else axes[3] in (1, 3) and axes[1] not in (1, 3)
    return ImageInput(sides, _TYPES[told.elem_type], last, None if known is None else known.size)
