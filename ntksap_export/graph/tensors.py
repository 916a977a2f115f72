"""Tensors of an ONNX file as torch's, bit for bit; none is made before its size agrees with the bytes that are there.

A sparse one (COO) lists positions, in order, as numbers into the flat tensor or as coordinates. Written are the
former, int64: 12 bytes a value where float32 takes 4, so that it is smaller only below a density of a third.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx.external_data_helper import uses_external_data

from ntksap_export.bit_patterns import patterns
from ntksap_export.errors import CheckpointError
from ntksap_export.graph.external import bring_in_
from ntksap_export.quoting import shown
from ntksap_export.sizes import check_dense_bytes

_MAX_ELEMENTS: Final = 2**48  # no file holds more; below it no product of sizes overflows 64 bits
_T: Final = onnx.TensorProto
# type -> torch's, the field that holds its values where they are not raw, and what the field's numbers are bits of
_TYPES: Final[Mapping[int, tuple[torch.dtype, str, type[Any]]]] = {
    _T.FLOAT: (torch.float32, "float_data", np.float32),
    _T.DOUBLE: (torch.float64, "double_data", np.float64),
    _T.FLOAT16: (torch.float16, "int32_data", np.uint16),
    _T.BFLOAT16: (torch.bfloat16, "int32_data", np.uint16),
    _T.FLOAT8E4M3FN: (torch.float8_e4m3fn, "int32_data", np.uint8),
    _T.FLOAT8E5M2: (torch.float8_e5m2, "int32_data", np.uint8),
    _T.INT64: (torch.int64, "int64_data", np.int64),
    _T.INT32: (torch.int32, "int32_data", np.int32),
    _T.INT16: (torch.int16, "int32_data", np.int16),
    _T.INT8: (torch.int8, "int32_data", np.int8),
    _T.UINT64: (torch.uint64, "uint64_data", np.uint64),
    _T.UINT32: (torch.uint32, "uint64_data", np.uint32),
    _T.UINT16: (torch.uint16, "int32_data", np.uint16),
    _T.UINT8: (torch.uint8, "int32_data", np.uint8),
    _T.BOOL: (torch.bool, "int32_data", np.uint8),
}
# fields whose numbers are wider than some types that they hold
_FIELDS: Final[Mapping[str, type[Any]]] = {"int32_data": np.int32, "uint64_data": np.uint64}
_CODES: Final = {dtype: code for code, (dtype, *_) in _TYPES.items()}


def is_readable(tensor: onnx.TensorProto) -> bool:
    """Whether torch has the tensor's type: strings, complex numbers and those below 8 bits are left out."""
    return tensor.data_type in _TYPES


def read_dense(tensor: onnx.TensorProto, folder: Path) -> torch.Tensor:
    """The values, in memory of their own.

    Args:
        tensor: of a file; not believed.
        folder: of that file, where external data lie.

    Raises:
        CheckpointError: its type cannot be read, its shape contradicts its bytes, or external data are missing.
    """
    if not is_readable(tensor):
        known = onnx.TensorProto.DataType.items()
        code = next((name for name, number in known if number == tensor.data_type), tensor.data_type)
        raise CheckpointError(f"tensor {shown(tensor.name)} has type {code}, which is not read; cast it first")
    dtype, _, _ = _TYPES[tensor.data_type]
    shape = _shape(tensor.name, tensor.dims)
    wanted = math.prod(shape) * dtype.itemsize
    raw = bytearray(_external(tensor, folder) if uses_external_data(tensor) else _inline(tensor, shape))
    if len(raw) != wanted:
        raise CheckpointError(f"tensor {shown(tensor.name)} {shape} must have {wanted} bytes; got {len(raw)}")
    if dtype == torch.bool and any(raw.translate(None, b"\0\1")):
        raise CheckpointError(f"tensor {shown(tensor.name)} is bool but holds bytes other than 0 and 1")
    return torch.frombuffer(raw, dtype=dtype).reshape(shape) if raw else torch.zeros(shape, dtype=dtype)


def read_sparse(sparse: onnx.SparseTensorProto, folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The dense values, and where one is stored.

    Raises:
        CheckpointError: as `read_dense`, or positions and values contradict each other.
    """
    name = sparse.values.name
    shape = _shape(name, sparse.dims)
    values = read_dense(sparse.values, folder)
    places = _places(sparse, shape, values.numel(), folder)
    if values.dim() != 1:
        raise CheckpointError(f"values of the sparse {shown(name)} must be in a row; got {tuple(values.shape)}")
    check_dense_bytes(name, math.prod(shape) * values.dtype.itemsize, values.nbytes + places.nbytes)
    tensor, kept = torch.zeros(shape, dtype=values.dtype), torch.zeros(shape, dtype=torch.bool)
    patterns(tensor)[places] = patterns(values)
    patterns(kept)[places] = 1
    return tensor, kept


def to_dense(name: str, tensor: torch.Tensor) -> onnx.TensorProto:
    """The tensor as an initializer."""
    return onnx.TensorProto(
        name=name, data_type=_CODES[tensor.dtype], dims=tensor.shape, raw_data=patterns(tensor).tobytes()
    )


def to_sparse(name: str, tensor: torch.Tensor) -> onnx.SparseTensorProto:
    """The tensor as a sparse initializer that lists every value with any bit set: -0.0 and NaN are there."""
    places = np.flatnonzero(patterns(tensor)).astype(np.int64)
    values = torch.from_numpy(patterns(tensor)[places]).view(tensor.dtype)
    indices = to_dense(f"{name}_indices", torch.from_numpy(places))
    return onnx.SparseTensorProto(values=to_dense(name, values), indices=indices, dims=tensor.shape)


def is_smaller_sparse(tensor: torch.Tensor) -> bool:
    """Whether values and positions together take fewer bytes than the values alone."""
    stored = int(np.count_nonzero(patterns(tensor)))
    return stored * (8 + tensor.dtype.itemsize) + 64 < tensor.nbytes  # 64: names, and the second header


def _shape(name: str, dims: Any) -> tuple[int, ...]:
    shape = tuple(dims)
    if any(size < 0 for size in shape) or len(shape) > 64 or math.prod(max(size, 1) for size in shape) > _MAX_ELEMENTS:
        raise CheckpointError(f"tensor {shown(name)} has the impossible shape {str(shape)[:80]}; is the file damaged?")
    return shape


def _inline(tensor: onnx.TensorProto, shape: tuple[int, ...]) -> bytes:
    if tensor.HasField("segment"):
        raise CheckpointError(f"tensor {shown(tensor.name)} is stored in segments, which are not read")
    if tensor.HasField("raw_data"):
        return bytes(tensor.raw_data)
    _, field, kind = _TYPES[tensor.data_type]
    numbers = getattr(tensor, field)
    if len(numbers) != math.prod(shape):
        raise CheckpointError(f"tensor {shown(tensor.name)} {shape} has {len(numbers)} values; is the file damaged?")
    stored = np.array(numbers, dtype=_FIELDS.get(field, kind))
    values = stored.astype(kind)
    if field in _FIELDS and not np.array_equal(values, stored):
        raise CheckpointError(f"tensor {shown(tensor.name)} has values beyond its type; is the file damaged?")
    return values.tobytes()


def _external(tensor: onnx.TensorProto, folder: Path) -> bytes:
    loaded = onnx.TensorProto()  # the file's own stays small
    loaded.CopyFrom(tensor)
    bring_in_(loaded, folder, CheckpointError)
    return bytes(loaded.raw_data)


def _places(sparse: onnx.SparseTensorProto, shape: tuple[int, ...], count: int, folder: Path) -> npt.NDArray[np.int64]:
    name = shown(sparse.values.name)
    indices = read_dense(sparse.indices, folder)
    if indices.dtype != torch.int64 or tuple(indices.shape) not in ((count,), (count, len(shape))):
        raise CheckpointError(
            f"indices of the sparse {name} must be {count} int64; got {indices.dtype} {indices.shape}"
        )
    places: npt.NDArray[np.int64] = indices.numpy()
    if places.ndim == 2:
        sizes = np.array(shape, dtype=np.int64)
        if bool(((places < 0) | (places >= sizes)).any()):
            raise CheckpointError(f"indices of the sparse {name} lie outside {shape}; the file is damaged")
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        places = places @ np.array(strides, dtype=np.int64)
    if count and not 0 <= int(places[0]) <= int(places[-1]) < math.prod(shape):
        raise CheckpointError(f"indices of the sparse {name} lie outside {shape}; the file is damaged")
    if bool((places[1:] <= places[:-1]).any()):
        raise CheckpointError(f"indices of the sparse {name} must rise; the file is damaged")
    return places
