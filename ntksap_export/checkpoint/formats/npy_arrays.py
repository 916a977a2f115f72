"""Arrays of .npy files, alone or in a zip archive (.npz), without numpy's loader: sizes first, never an object.

Written is what `numpy.save` writes, and archives whose bytes depend on their content alone: stored, with no clock.
"""

from __future__ import annotations

import errno
import math
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from ntksap_export.checkpoint.container import shape_from_json
from ntksap_export.errors import CheckpointError
from ntksap_export.quoting import first_line, shown

_NUMBERS: Final = "biuf"
_DEFLATE_AT_MOST: Final = 1032  # to 1: no deflated data holds more
_LONG_AGO: Final = (1980, 1, 1, 0, 0, 0)
_HEADERS: Final = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npy(path: Path) -> npt.NDArray[Any]:
    """The array of a .npy file, in memory of its own, in C order and the machine's byte order.

    Raises:
        CheckpointError: it is damaged, or holds anything but numbers or bools.
    """
    with _one_fault("it"), path.open("rb") as file:
        return _values(file, *_header(file), path.stat().st_size)


class Archive:
    """An open .npz."""

    def __init__(self, opened: zipfile.ZipFile, size: int) -> None:
        self._zip = opened
        self._size = size
        self._members = {info.filename: info for info in opened.infolist()}

    def header(self, member: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Dtype and shape of an array; its bytes are known to lie in the file."""
        with _one_fault(member), self._open(member) as (file, size):
            dtype, shape, _ = _header(file)
            _check_size(dtype, shape, size - file.tell())
            return dtype, shape

    def read(self, member: str) -> npt.NDArray[Any]:
        """The values of an array."""
        with _one_fault(member), self._open(member) as (file, size):
            return _values(file, *_header(file), size)

    def text(self, member: str) -> str:
        """A word, as `format` is one."""
        with _one_fault(member), self._open(member) as (file, _):
            dtype, shape, _ = _header(file)
            if dtype.kind not in "SU" or shape != () or dtype.itemsize > 256:
                raise CheckpointError(f"{member} must be a word; got {dtype} {shape}")
            return str(np.frombuffer(file.read(dtype.itemsize), dtype)[0].astype(str))

    @contextmanager
    def _open(self, member: str) -> Iterator[tuple[IO[bytes], int]]:
        if f"{member}.npy" not in self._members:
            raise CheckpointError(f"{member} is missing")
        info = self._members[f"{member}.npy"]
        # what the directory of the archive claims is bounded by the archive itself before any of it is read
        if info.compress_size > self._size or info.file_size > _DEFLATE_AT_MOST * info.compress_size + 1024:
            raise CheckpointError(f"{member} claims {info.file_size} bytes, more than the file can hold")
        with self._zip.open(info) as file:
            yield file, info.file_size


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a .npz for reading.

    Raises:
        CheckpointError: it is no zip archive.
    """
    with _one_fault("it"):
        opened = zipfile.ZipFile(path)
    with opened:
        yield Archive(opened, path.stat().st_size)


def write_npy(path: Path, array: npt.NDArray[Any]) -> None:
    """Write one array of numbers."""
    with path.open("xb") as file:
        np.lib.format.write_array(file, array, version=(1, 0), allow_pickle=False)


def write_archive(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write a .npz of `arrays`."""
    with zipfile.ZipFile(path, "x", zipfile.ZIP_STORED) as archive:
        for member, array in arrays.items():
            info = zipfile.ZipInfo(f"{member}.npy", _LONG_AGO)
            info.create_system, info.external_attr = 3, 0o644 << 16  # or it would tell the system it was written on
            with archive.open(info, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, version=(1, 0), allow_pickle=False)


@contextmanager
def _one_fault(what: str) -> Iterator[None]:
    # A broken archive or header trips the readers in many ways.
    try:
        yield
    except CheckpointError:
        raise
    except (Exception, struct.error) as error:
        # A seek to before the file's begin is an archive that says so; anything else of the system's is the disk's.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise CheckpointError(f"{what} cannot be read: {first_line(error)}") from error


def _header(file: IO[bytes]) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise CheckpointError(f"an array of the unknown version {version}")
    shape, fortran_order, dtype = _HEADERS[version](file)
    return dtype, shape_from_json(list(shape)), fortran_order


def _check_size(dtype: np.dtype[Any], shape: tuple[int, ...], size: int) -> None:
    if dtype.kind not in _NUMBERS or dtype.itemsize > 8:
        raise CheckpointError(
            f"an array of {shown(str(dtype))}, which is not read; use numbers of up to 64 bits or bools"
        )
    if math.prod(shape) * dtype.itemsize != size:
        raise CheckpointError(f"an array of {dtype} {shape} cannot have {size} bytes; truncated or damaged")


def _values(
    file: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...], fortran_order: bool, size: int
) -> npt.NDArray[Any]:
    size -= file.tell()
    _check_size(dtype, shape, size)
    raw = bytearray(file.read(size))
    if len(raw) != size or file.read(1):
        raise CheckpointError(f"an array of {dtype} {shape} has not the bytes that it claims; truncated or damaged")
    if dtype.kind == "b" and bool((np.frombuffer(raw, np.uint8) > 1).any()):
        raise CheckpointError("an array is bool but holds bytes other than 0 and 1")
    array = np.ndarray(shape, dtype, raw, order="F" if fortran_order else "C")
    native: npt.NDArray[Any] = np.asarray(array, dtype=dtype.newbyteorder("="), order="C")
    return native
