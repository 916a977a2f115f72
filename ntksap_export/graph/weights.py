"""A graph as a checkpoint: its initializers, read one at a time, and turned from dense to sparse and back.

`sparse_initializer` is part of ONNX, and onnxruntime makes it dense as it loads; other runtimes refuse it. It makes the
file smaller, nothing faster.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import onnx
import torch
from google.protobuf.message import DecodeError
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from ntksap_export.errors import CheckpointError, ExportError
from ntksap_export.graph import tensors
from ntksap_export.graph.model import Graph
from ntksap_export.quoting import first_line, naming
from ntksap_export.wire import GRAPH, model_fields

SPARSE_WARNING: Final = (
    "some runtimes refuse sparse_initializer (OpenVINO does); onnxruntime makes it dense as it loads: "
    "the file is smaller, running it is not faster"
)
_SPARSE_SINCE: Final = 6  # IR version
_LARGEST: Final = 2**31 - 2**16  # bytes; protobuf's limit, with room for the nodes


def is_graph(path: Path) -> bool:
    """Whether the file is one ONNX model from its first byte to its last, by its outermost fields alone."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return GRAPH in {number for number, _ in model_fields(file, path.stat().st_size)}
    except (OSError, ValueError):
        return False


def graph_files(path: Path) -> tuple[Path, ...]:
    """The graph's file, and those beside it that it keeps initializers in.

    Raises:
        CheckpointError: it is missing, or no ONNX graph.
    """
    proto = _loaded(path)
    parts = [part for item in proto.graph.sparse_initializer for part in (item.values, item.indices)]
    names = {
        entry.value
        for item in (*proto.graph.initializer, *parts)
        if uses_external_data(item)
        for entry in item.external_data
        if entry.key == "location"
    }
    inside = (
        path.parent / name for name in sorted(names) if not Path(name).is_absolute() and ".." not in Path(name).parts
    )
    return (path, *(file for file in inside if file.is_file()))


class Weights:
    """The initializers of an open graph; those in its subgraphs are not among them."""

    provenance: None = None

    def __init__(self, path: Path, proto: onnx.ModelProto) -> None:
        self._path = path
        self._dense = {item.name: item for item in proto.graph.initializer}
        self._sparse = {item.values.name: item for item in proto.graph.sparse_initializer}
        names = self._dense.keys() | self._sparse.keys()
        if not all(isinstance(name, str) for name in names):  # protobuf gives bytes where it is no text
            raise CheckpointError(f"{path}: the name of an initializer is no UTF-8; the file is damaged")
        if len(names) != len(proto.graph.initializer) + len(proto.graph.sparse_initializer):
            raise CheckpointError(f"{path}: two initializers have one name; the file is damaged")

    def names(self) -> tuple[str, ...]:
        """Names of the initializers, sorted."""
        return tuple(sorted(self._dense.keys() | self._sparse.keys()))

    def read(self, name: str) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The values of one, and where a sparse one stores any (None: it is dense).

        Raises:
            CheckpointError: it contradicts itself.
        """
        with naming(self._path):
            if name in self._sparse:
                return tensors.read_sparse(self._sparse[name], self._path.parent)
            return tensors.read_dense(self._dense[name], self._path.parent), None


@contextmanager
def open_weights(path: Path) -> Iterator[Weights]:
    """Open a graph for its initializers; external data are read when a tensor is asked for.

    Raises:
        CheckpointError: it is missing, or no ONNX graph.
    """
    yield Weights(path, _loaded(path))


def sparsify(path: Path, target: Path, only: Collection[str] | None = None) -> tuple[str, ...]:
    """Write the graph with a `sparse_initializer` for each initializer that gets smaller by it; no bit changes.

    Args:
        path: of the graph.
        target: of the new one, or the same; written whole or not at all, in one file: external data come into it.
        only: names of those that may become sparse; None: any.

    Returns:
        Names of the initializers that became sparse. Where there are any, the user must read `SPARSE_WARNING`.

    Raises:
        CheckpointError: the graph is damaged.
        ExportError: the result does not fit one file of 2 GiB.
    """
    proto = _loaded(path)
    fixed = {item.name for item in (*proto.graph.input, *proto.graph.output)}  # these must stay dense

    def changed(name: str, tensor: torch.Tensor) -> onnx.SparseTensorProto | None:
        asked = name not in fixed and (only is None or name in only)
        small = asked and tensors.is_smaller_sparse(tensor)
        return tensors.to_sparse(name, tensor) if small else None

    sparse = _rebuild_dense(proto, path, changed)
    _bring_in_sparse(proto, path)
    proto.graph.sparse_initializer.extend(sparse)
    if sparse:
        proto.ir_version = max(proto.ir_version, _SPARSE_SINCE)
    _write(path, target, proto)
    return tuple(sorted(item.values.name for item in sparse))


def densify(path: Path, target: Path) -> tuple[str, ...]:
    """Write the graph with a dense initializer for each sparse one; no bit changes. Undoes `sparsify`, which see."""
    proto = _loaded(path)
    _rebuild_dense(proto, path, lambda name, tensor: None)  # noqa: ARG005
    total = _Total(path, sum(item.ByteSize() for item in proto.graph.initializer))
    made = _make_dense_(proto, path, total.add)
    _write(path, target, proto)
    return made


def load_dense(path: Path) -> Graph:
    """Read and check a graph, with a dense initializer for each sparse one.

    Raises:
        ExportError: as `Graph.load`.
        CheckpointError: as `with_dense`.
    """
    return with_dense(Graph.load(path), path)


def with_dense(graph: Graph, path: Path) -> Graph:
    """The graph with a dense initializer for each sparse one; itself where there is none.

    Args:
        graph: in memory; left untouched.
        path: of its file, for messages.

    Raises:
        CheckpointError: a sparse initializer contradicts itself, or is out of all proportion when dense.
    """
    if not graph.sparse:
        return graph
    proto = copy.deepcopy(graph.proto)
    _make_dense_(proto, path)
    return Graph(proto, tuple(item.name for item in proto.graph.initializer))


def _make_dense_(
    proto: onnx.ModelProto,
    path: Path,
    note: Callable[[onnx.TensorProto], None] = lambda item: None,  # noqa: ARG005
) -> tuple[str, ...]:
    """Put a dense initializer in the place of each sparse one; `note` is told of each before it is kept."""
    weights = Weights(path, proto)
    made = sorted(item.values.name for item in proto.graph.sparse_initializer)
    for name in made:
        item = tensors.to_dense(name, weights.read(name)[0])
        note(item)
        proto.graph.initializer.append(item)
    proto.graph.ClearField("sparse_initializer")
    return tuple(made)


def _loaded(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        return onnx.load(str(path), load_external_data=False)
    except (DecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not a valid ONNX graph: {first_line(error)}") from error


def _rebuild_dense(
    proto: onnx.ModelProto, path: Path, changed: Callable[[str, torch.Tensor], onnx.SparseTensorProto | None]
) -> list[onnx.SparseTensorProto]:
    # Check each initializer, bring in external data, and take out those for which `changed` gives a sparse one.
    # Types that torch has not stay as they are.
    Weights(path, proto)
    total, sparse, left = _Total(path), [], []
    for item in proto.graph.initializer:
        with naming(path):
            tensor = tensors.read_dense(item, path.parent) if tensors.is_readable(item) else None
        made = None if tensor is None else changed(item.name, tensor)
        if made is not None:
            sparse.append(made)
        elif tensor is not None and uses_external_data(item):
            left.append(tensors.to_dense(item.name, tensor))
        else:
            left.append(item)
        total.add(made or left[-1])
    # `left` holds references into the field: a copy of them must be there before it is cleared
    rebuilt = onnx.GraphProto(initializer=left)
    proto.graph.ClearField("initializer")
    proto.graph.MergeFrom(rebuilt)
    return sparse


def _bring_in_sparse(proto: onnx.ModelProto, path: Path) -> None:
    for item in proto.graph.sparse_initializer:
        with naming(path):
            tensors.read_sparse(item, path.parent)
            for part in (item.values, item.indices):
                if uses_external_data(part):
                    part.CopyFrom(tensors.to_dense(part.name, tensors.read_dense(part, path.parent)))


class _Total:
    """Bytes of the new file, refused while they are still few."""

    def __init__(self, path: Path, size: int = 0) -> None:
        self._path, self._size = path, size

    def add(self, item: onnx.TensorProto | onnx.SparseTensorProto) -> None:
        self._size += item.ByteSize()
        if self._size > _LARGEST:
            raise ExportError(f"{self._path}: the result does not fit one file of 2 GiB; convert it to a checkpoint")


def _write(path: Path, target: Path, proto: onnx.ModelProto) -> None:
    try:
        load_external_data_for_model(proto, str(path.parent))  # of constants, and of subgraphs
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ValueError, OSError) as error:
        raise CheckpointError(f"{path}: not a valid ONNX graph: {first_line(error)}") from error
    Graph(proto, ()).save(target, "never")
