"""Tensors of a graph whose values lie in another file, and how many bytes a tensor's values take."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import onnx
from onnx.external_data_helper import load_external_data_for_tensor

from ntksap_export.errors import NtksapError
from ntksap_export.quoting import first_line, shown

NARROW: Final = {
    getattr(onnx.TensorProto, name): bits / 8
    for name, bits in (("INT4", 4), ("UINT4", 4), ("FLOAT4E2M1", 4), ("INT2", 2), ("UINT2", 2))
    if hasattr(onnx.TensorProto, name)
}


def stored_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes that the values take by their type and shape; 0 for strings and unknown types."""
    size: int = math.ceil(math.prod(tensor.dims) * _item_bytes(tensor.data_type))
    return size


def _item_bytes(kind: int) -> float:
    if kind in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
        return 0
    try:
        return NARROW.get(kind) or float(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)
    except KeyError:
        return 0


def bring_in_(tensor: onnx.TensorProto, folder: Path, wrong: Callable[[str], NtksapError]) -> None:
    """Read a tensor's external data in place; nothing that the file says of them is believed.

    Args:
        tensor: of a graph.
        folder: of that graph.
        wrong: makes the error of what is to be said.

    Raises:
        NtksapError: that error: they lie outside the folder, are missing or too short, or have another size.
    """
    told = {entry.key: entry.value for entry in tensor.external_data}
    location, name = Path(told.get("location", "")), shown(tensor.name)
    if not location.name or location.is_absolute() or ".." in location.parts:
        raise wrong(f"the data of {name} lie outside the graph's folder, at {shown(str(location))}")
    if min(tensor.dims, default=0) < 0:
        raise wrong(f"{name} has the impossible shape {shown(list(tensor.dims))}")
    file, data = folder / location, f"the data file {shown(str(location))} of {name}"
    if not os.path.exists(file):  # noqa: PTH110 - Path's own stops at a name that is too long
        raise wrong(f"{data} is missing; keep the two in one folder")
    if file.is_symlink() or not file.is_file():
        raise wrong(f"{data} is a link or no file; copy the file itself")
    wanted = stored_bytes(tensor)
    offset, length = told.get("offset", "0"), told.get("length", str(wanted))
    if not (offset.isascii() and offset.isdigit() and len(offset) < 20) or length != str(wanted):
        raise wrong(f"{name} must have {wanted} bytes; its data say {shown(length)} at {shown(offset)}")
    if (size := file.stat().st_size) < int(offset) + wanted:
        raise wrong(
            f"{data} has {size} bytes, the tensor ends at {int(offset) + wanted}; it was cut short, or belongs to "
            "another graph"
        )
    if "length" not in told:  # without it onnx reads to the end of the file
        tensor.external_data.add(key="length", value=length)
    try:
        load_external_data_for_tensor(tensor, str(folder))
    except Exception as error:  # onnx raises its own errors, the system's, and those of broken numbers
        raise wrong(f"the data of {name} cannot be read: {first_line(error)}") from error
    tensor.ClearField("data_location")  # so that the graph has the bytes it had before


def all_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model: initializers, sparse ones, and those in attributes, also of inner graphs."""
    yield from _tensors_of(proto.graph)
    for function in proto.functions:
        yield from _in_nodes(function.node)


def _tensors_of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _in_nodes(graph.node)


def _in_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (*attribute.tensors, *([attribute.t] if attribute.HasField("t") else []))
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _tensors_of(inner)
