"""An ONNX model as data: frozen bytes of meaning, nothing that runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from ntksap_export.atomic import write_bytes
from ntksap_export.errors import ExportError

INPUT_NAME = "images"
OUTPUT_NAME = "logits"


@dataclass(frozen=True, slots=True)
class Graph:
    """An ONNX model whose weights are named like the parameters they come from.

    Attributes:
        proto: the model; passes work on copies, nobody changes this one.
        parameters: names of the parameters that stand in it as initializers.
    """

    proto: onnx.ModelProto
    parameters: tuple[str, ...]

    @classmethod
    def load(cls, path: Path) -> Graph:
        """Read a graph and check it.

        Raises:
            ExportError: no such file, not ONNX, or not a valid graph.
        """
        try:
            proto = onnx.load(str(path))
            onnx.checker.check_model(proto)
        except FileNotFoundError:
            raise ExportError(f"no such file '{path}'") from None
        except (DecodeError, UnicodeDecodeError, onnx.checker.ValidationError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ExportError(f"'{path}' is not a valid ONNX graph: {reason}") from error
        return cls(proto, tuple(item.name for item in proto.graph.initializer))

    def to_bytes(self) -> bytes:
        """The file's content; equal graphs give equal bytes.

        Raises:
            ExportError: above protobuf's limit of 2 GiB.
        """
        try:
            return bytes(self.proto.SerializeToString(deterministic=True))
        except ValueError as error:
            raise ExportError(f"the graph does not fit one file of 2 GiB: {error}") from error

    def save(self, path: Path) -> None:
        """Write the graph, whole or not at all."""
        write_bytes(path, self.to_bytes())

    def weights(self) -> Iterator[tuple[str, np.ndarray]]:
        """Name and value of each initializer of two or more axes."""
        for item in self.proto.graph.initializer:
            if len(item.dims) >= 2:
                yield item.name, numpy_helper.to_array(item)

    def without_weights(self) -> bytes:
        """Nodes, inputs, outputs and opsets: what graphs that differ in their initializers alone have in common."""
        proto = onnx.ModelProto()
        proto.graph.CopyFrom(self.proto.graph)
        proto.opset_import.extend(self.proto.opset_import)
        for field in ("initializer", "sparse_initializer"):
            proto.graph.ClearField(field)
        return bytes(proto.SerializeToString(deterministic=True))
