"""A graph on disk: one file, or a pair of which the second holds the large initializers (ONNX's external data).

    model.onnx                      nodes, small initializers, and where the others stand
    model.onnx.1f6a09c2b7d4.data    the others, each from a multiple of 4096 on; the name holds the SHA-256's beginning

The name of the second stands in the first, relative, so the two go together and the second is never renamed. It says
what is in it, and that makes writing safe: the data come first, under a name that no other content has, then the graph
takes the place of the old one in one step, then the old data go. Whenever that stops, the graph that is there has its
data beside it. Equal graphs give equal names and bytes.

A single file cannot lose its other half; but protobuf ends at 2 GiB, and a runtime that has loaded it holds a further
copy of its weights (ResNet-50, 95 MB: 308 MB resident against 215 MB of the pair). `auto` splits above 1 GiB.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import numpy_helper
from onnx.external_data_helper import uses_external_data

from ntksap_export.atomic import replace, sync_tree, write_bytes
from ntksap_export.errors import ExportError
from ntksap_export.graph.external import NARROW, all_tensors, bring_in_, stored_bytes
from ntksap_export.quoting import first_line, shown

ExternalData = Literal["auto", "always", "never"]
AUTO_BYTES: Final = 2**30
_ONE_FILE_BYTES: Final = 2**31  # protobuf's limit
_SMALL: Final = 1024  # bytes; smaller initializers stay with the nodes, which read shapes and axes out of them
_ALIGNED: Final = 4096  # a page, as ONNX advises, so that a runtime can map the file
_DATA = re.compile(r"\.[0-9a-f]{12}\.data")


def write_graph(
    path: Path, proto: onnx.ModelProto, external_data: ExternalData = "auto", above_bytes: int = AUTO_BYTES
) -> tuple[Path, ...]:
    """Write a graph, whole or not at all; data files of an earlier one at `path` go.

    Args:
        path: of the graph.
        proto: all of whose initializers are in memory; left untouched.
        external_data: `always` writes a pair where any initializer is large enough, `never` none.
        above_bytes: of initializers, where `auto` begins to write pairs.

    Returns:
        The file, or the two.

    Raises:
        ExportError: `never`, and the graph does not fit one file.
        OSError: the disk is full, or the directory cannot be written.
    """
    size = weight_bytes(proto)
    apart = external_data == "always" or (external_data == "auto" and size > above_bytes)
    large = [item for item in proto.graph.initializer if apart and _goes_apart(item)]
    if not large:
        write_bytes(path, to_bytes(proto))
        remove_old_data(path, ())
        return (path,)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.data.{os.getpid()}.part")
    try:
        places, digest = _write_data(temporary, large)
        data = path.with_name(f"{path.name}.{digest[:12]}.data")
        before = data.exists()
        sync_tree(temporary)
        replace(temporary, data)
        try:
            write_bytes(path, to_bytes(_pointing(proto, data.name, places)))
        except BaseException:
            if not before:
                data.unlink(missing_ok=True)
            raise
    finally:
        temporary.unlink(missing_ok=True)
    remove_old_data(path, (data,))
    return (path, data)


def read_graph(path: Path) -> onnx.ModelProto:
    """Read a graph with all its external data, and check it.

    Raises:
        ExportError: no such file, not ONNX, not a valid graph, or its data are missing, too short or elsewhere.
    """
    try:
        proto = onnx.load(str(path), load_external_data=False)
        for tensor in all_tensors(proto):
            if uses_external_data(tensor):
                bring_in_(tensor, path.parent, lambda said: ExportError(f"'{path}': {said}"))
        check_valid(proto)
    except FileNotFoundError:
        raise ExportError(f"no such file '{path}'") from None
    except (DecodeError, UnicodeDecodeError, onnx.checker.ValidationError) as error:
        raise ExportError(f"'{path}' is not a valid ONNX graph: {first_line(error)}") from error
    return proto


def files_of(path: Path) -> tuple[Path, ...]:
    """The files of a graph that this module wrote; those of another say themselves which (`weights.graph_files`)."""
    return tuple(file for file in (path, *_data_beside(path)) if file.is_file())


def remove_graph(path: Path) -> None:
    """Delete a graph that this module wrote, and its data; it need not be there."""
    path.unlink(missing_ok=True)
    remove_old_data(path, ())


def move_graph(source: Path, target: Path) -> tuple[Path, ...]:
    """Put a graph that this module wrote in the place of another of the same file name, as `write_graph` would.

    Raises:
        OSError: they are on two file systems.
    """
    assert source.name == target.name
    target.parent.mkdir(parents=True, exist_ok=True)
    moved = []
    for file in (*_data_beside(source), source):
        replace(file, target.with_name(file.name))
        moved.append(target.with_name(file.name))
    remove_old_data(target, moved)
    return (target, *moved[:-1])


def remove_old_data(path: Path, but: Sequence[Path]) -> None:
    """Delete data files of graphs that stood at `path`, except `but`: those that the one there needs."""
    for old in _data_beside(path):
        if old not in but:
            old.unlink(missing_ok=True)


def to_bytes(proto: onnx.ModelProto) -> bytes:
    """The content of one file; equal graphs give equal bytes.

    Raises:
        ExportError: above protobuf's limit of 2 GiB.
    """
    try:
        return bytes(proto.SerializeToString(deterministic=True))
    except (ValueError, EncodeError) as error:
        raise ExportError(
            f"the graph does not fit one file of 2 GiB: {weight_bytes(proto)} bytes of weights; "
            "use --external-data auto or always"
        ) from error


def check_valid(proto: onnx.ModelProto) -> None:
    """`onnx.checker`, which cannot take a graph of more than 2 GiB: without the values of its initializers then.

    Raises:
        onnx.checker.ValidationError: it is not valid.
    """
    if weight_bytes(proto) < _ONE_FILE_BYTES:  # a try above it would take as much memory again
        with contextlib.suppress(ValueError, EncodeError):  # it cannot be serialized
            onnx.checker.check_model(proto)
            return
    check_without_values(proto)


def check_without_values(proto: onnx.ModelProto) -> None:
    """Check nodes and types, and of the values only how many there are.

    Raises:
        onnx.checker.ValidationError: it is not valid.
    """
    known = {value.name for value in proto.graph.input}
    bare = without_initializers(proto)
    for item in proto.graph.initializer:
        if item.HasField("raw_data") and len(item.raw_data) != stored_bytes(item):
            raise onnx.checker.ValidationError(f"{shown(item.name)} has {len(item.raw_data)} bytes of values")
        if item.name not in known:
            bare.graph.input.append(onnx.helper.make_tensor_value_info(item.name, item.data_type, list(item.dims)))
    onnx.checker.check_model(bare)


def weight_bytes(proto: onnx.ModelProto) -> int:
    """Bytes of the initializers' values."""
    sparse = (part for item in proto.graph.sparse_initializer for part in (item.values, item.indices))
    return sum(stored_bytes(item) for item in (*proto.graph.initializer, *sparse))


def without_initializers(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without the graph's dense initializers, which are not copied on the way."""
    bare = onnx.ModelProto()
    for owner, target in ((proto, bare), (proto.graph, bare.graph)):
        for field, value in owner.ListFields():
            if field.name in ("graph", "initializer"):
                continue
            _set(target, field.name, value)
    return bare


def _set(message: Any, name: str, value: Any) -> None:
    if hasattr(value, "MergeFrom"):
        getattr(message, name).MergeFrom(value)
    else:
        setattr(message, name, value)


def _goes_apart(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type == onnx.TensorProto.STRING or stored_bytes(tensor) < _SMALL:
        return False
    return tensor.HasField("raw_data") or tensor.data_type not in NARROW


def _write_data(path: Path, tensors: list[onnx.TensorProto]) -> tuple[dict[str, tuple[int, int]], str]:
    """Write the values one after the other; name -> (offset, length), and the file's SHA-256."""
    places: dict[str, tuple[int, int]] = {}
    digest, at = hashlib.sha256(), 0
    with path.open("wb") as file:
        for tensor in tensors:
            values = bytes(tensor.raw_data) if tensor.HasField("raw_data") else numpy_helper.to_array(tensor).tobytes()
            for part in (bytes(-at % _ALIGNED), values):
                file.write(part)
                digest.update(part)
                at += len(part)
            places[tensor.name] = (at - len(values), len(values))
    return places, digest.hexdigest()


def _pointing(proto: onnx.ModelProto, location: str, places: dict[str, tuple[int, int]]) -> onnx.ModelProto:
    """The model with initializers that say where their values stand."""
    made = without_initializers(proto)
    for item in proto.graph.initializer:
        if item.name not in places:
            made.graph.initializer.append(item)
            continue
        offset, length = places[item.name]
        entry = made.graph.initializer.add()
        for field, value in item.ListFields():
            if not field.name.endswith("_data"):  # the fields that hold values
                _set(entry, field.name, value)
        entry.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
            entry.external_data.add(key=key, value=value)
    return made


def _data_beside(path: Path) -> tuple[Path, ...]:
    if not path.parent.is_dir():
        return ()
    return tuple(
        file
        for file in sorted(path.parent.iterdir())
        if file.name.startswith(path.name) and _DATA.fullmatch(file.name.removeprefix(path.name))
    )
