"""An ONNX model as data: frozen bytes of meaning, nothing that runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from ntksap_export.graph.files import AUTO_BYTES, ExternalData, read_graph, to_bytes, without_initializers, write_graph

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
            ExportError: no such file, not ONNX, not a valid graph, or its external data are missing or wrong.
        """
        proto = read_graph(path)
        return cls(proto, tuple(item.name for item in proto.graph.initializer))

    def to_bytes(self) -> bytes:
        """The file's content; equal graphs give equal bytes.

        Raises:
            ExportError: above protobuf's limit of 2 GiB.
        """
        return to_bytes(self.proto)

    def save(self, path: Path, external_data: ExternalData = "auto", above_bytes: int = AUTO_BYTES) -> tuple[Path, ...]:
        """Write the graph, whole or not at all; see `files.write_graph`.

        Args:
            path: of the graph.
            external_data: `auto`, `always` or `never` beside it in a file of their own: the large initializers.
            above_bytes: of initializers, where `auto` begins.

        Returns:
            The file, or the two.

        Raises:
            ExportError: `never`, and the graph does not fit one file of 2 GiB.
        """
        return write_graph(path, self.proto, external_data, above_bytes)

    @property
    def sparse(self) -> tuple[str, ...]:
        """Names of the sparse initializers."""
        return tuple(item.values.name for item in self.proto.graph.sparse_initializer)

    @property
    def domains(self) -> frozenset[str]:
        """Of the operators that it may use; ONNX's own is the empty one."""
        return frozenset(entry.domain for entry in self.proto.opset_import)

    @property
    def open_axes(self) -> tuple[int, ...]:
        """Axes of the first input, beside the batch, whose size it leaves open."""
        sides = self.proto.graph.input[0].type.tensor_type.shape.dim
        return tuple(axis for axis, side in enumerate(sides) if axis and not side.HasField("dim_value"))

    def weights(self) -> Iterator[tuple[str, np.ndarray]]:
        """Name and value of each initializer of two or more axes."""
        for item in self.proto.graph.initializer:
            if len(item.dims) >= 2:
                yield item.name, numpy_helper.to_array(item)

    def without_weights(self) -> bytes:
        """Nodes, inputs, outputs and opsets: what graphs that differ in their initializers alone have in common."""
        proto = without_initializers(self.proto)
        bare = onnx.ModelProto(graph=proto.graph, opset_import=proto.opset_import)
        bare.graph.ClearField("sparse_initializer")
        return bytes(bare.SerializeToString(deterministic=True))
