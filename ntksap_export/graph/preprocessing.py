"""What must be done to an image before a graph takes it, and what its answers are called: part of the graph itself.

Two keys of the model's `metadata_props`, each a JSON text; passes that strip metadata keep them:

    ntksap.preprocessing    what the caller does, in this order: decode as `channel_order`; resize so that the shorter
                            side is size / crop_pct, by `interpolation`; cut out the central square of `size`; scale
                            the pixels to `value_range`; subtract `mean` and divide by `std`; hand them over as
                            `dtype` in the order `layout`
    ntksap.classes          names of the classes, by their position among the logits

What the graph itself does to its input (`graph.input_form`) stands there as `graph_mean` and `graph_std`; `mean` is
then 0 and `std` 1, so that a caller who follows the list never normalizes twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import onnx

from ntksap_export.atomic import canonical_json
from ntksap_export.graph.model import Graph

PREFIX: Final = "ntksap."
PREPROCESSING: Final = "ntksap.preprocessing"
CLASSES: Final = "ntksap.classes"

Triple = tuple[float, float, float]
_LENGTHS: Final = {"size": 2, "value_range": 2, "mean": 3, "std": 3, "graph_mean": 3, "graph_std": 3}


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What the caller of a graph does to an image.

    Attributes:
        size: (H, W) in pixels; of a graph of dynamic size the one it was trained at.
        mean: per channel, on the scale of `value_range`.
        std: likewise.
        interpolation: of the resize.
        crop_pct: share of the resized shorter side that the central crop takes.
        channel_order: of the three channels.
        value_range: what black and white become before `mean` and `std`.
        layout: `NCHW` or `NHWC`.
        dtype: `float32` or `uint8`.
        graph_mean: what the graph subtracts itself, on the scale where white is 1; None: nothing.
        graph_std: what it then divides by.
    """

    size: tuple[int, int]
    mean: Triple
    std: Triple
    interpolation: str = "bilinear"
    crop_pct: float = 1.0
    channel_order: str = "RGB"
    value_range: tuple[float, float] = (0.0, 1.0)
    layout: str = "NCHW"
    dtype: str = "float32"
    graph_mean: Triple | None = None
    graph_std: Triple | None = None

    def to_json(self) -> dict[str, Any]:
        """As it stands in the metadata."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Preprocessing:
        """From the metadata; keys of a later version are left out.

        Raises:
            TypeError, ValueError: it is not what `to_json` writes.
        """
        known = {key: value[key] for key in cls.__dataclass_fields__ if key in value}
        for key, length in _LENGTHS.items():
            if known.get(key) is not None:
                numbers = tuple((int if key == "size" else float)(number) for number in known[key])
                if len(numbers) != length:
                    raise ValueError(f"{key} must have {length} numbers")
                known[key] = numbers
        return cls(**known)


def described(graph: Graph, preprocessing: Preprocessing, classes: Sequence[str] | None) -> Graph:
    """A copy that says what it takes, and what its answers are called where that is known."""
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    describe_(proto, preprocessing, classes)
    return Graph(proto, graph.parameters)


def describe_(proto: onnx.ModelProto, preprocessing: Preprocessing, classes: Sequence[str] | None) -> None:
    """Write the two keys in place; what stood there under them goes."""
    told = {item.key: item.value for item in proto.metadata_props}
    told[PREPROCESSING] = canonical_json(preprocessing.to_json())
    if classes is not None:
        told[CLASSES] = canonical_json(list(classes))
    del proto.metadata_props[:]
    for key, value in sorted(told.items()):
        proto.metadata_props.add(key=key, value=value)


def read_preprocessing(proto: onnx.ModelProto) -> Preprocessing | None:
    """What the graph says of its input; None where it says nothing that can be read."""
    value = _told(proto, PREPROCESSING)
    try:
        return Preprocessing.from_json(value) if isinstance(value, dict) else None
    except (TypeError, ValueError, OverflowError):
        return None


def read_classes(proto: onnx.ModelProto) -> tuple[str, ...] | None:
    """Names of the classes; None where the graph has none."""
    value = _told(proto, CLASSES)
    known = isinstance(value, list) and all(isinstance(name, str) for name in value)
    return tuple(value) if known else None


def _told(proto: onnx.ModelProto, key: str) -> Any:
    try:
        return next((json.loads(item.value) for item in proto.metadata_props if item.key == key), None)
    except ValueError:
        return None
