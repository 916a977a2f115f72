"""A folder that scipy and numpy read: `NAME.npz` for each pruned tensor, `NAME.npy` for each other.

An .npz is a `csr_matrix` of the tensor seen as a matrix (out, the rest), as `scipy.sparse.load_npz` reads it: what
the mask keeps is stored, zeros too. A float16 one can be loaded there but not made dense before `.astype`. Neither
holds true shapes, nor names that are no file names; these stand in `tensors.json`, with the provenance:

    {"format": "ntksap-npz", "schema": 1, "tensors": {NAME: {"file": FILE, "shape": [..]}}, "provenance": {..}}

Folders without it are read too: names are then those of the files, and shapes those of the matrices.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from ntksap_export import atomic
from ntksap_export.bit_patterns import patterns
from ntksap_export.checkpoint.bits import matrix_shape
from ntksap_export.checkpoint.container import DTYPES, dtype_name, shape_from_json
from ntksap_export.checkpoint.encodings import Decoded
from ntksap_export.checkpoint.formats.files import read_json
from ntksap_export.checkpoint.formats.npy_arrays import Archive, open_archive, read_npy, write_archive, write_npy
from ntksap_export.checkpoint.provenance import Provenance
from ntksap_export.checkpoint.source import Source
from ntksap_export.errors import CheckpointError
from ntksap_export.quoting import naming, shown
from ntksap_export.sizes import check_dense_bytes

INDEX_FILE: Final = "tensors.json"
_FORMAT: Final = "ntksap-npz"
_SCHEMA: Final = 1
_SUFFIXES: Final = (".npz", ".npy")
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}")
_NUMPY_HAS: Final = frozenset(DTYPES.values()) - {torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2}


def matches(path: Path) -> bool:
    """Whether `path` is a folder of ours, or one of .npz and .npy files alone whose first .npz is scipy's."""
    try:
        if (path / INDEX_FILE).is_file():
            return read_json(path / INDEX_FILE).get("format") == _FORMAT
        files = _listed(path) if path.is_dir() else []
        archives = [file for file in files if file.suffix == ".npz"]
        if not archives or any(file.suffix not in _SUFFIXES for file in files):
            return False
        with open_archive(archives[0]) as archive:
            return bool(archive.text("format"))
    except (CheckpointError, OSError):
        return False


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open the folder; a tensor's file is opened when it is asked for.

    Raises:
        CheckpointError: `tensors.json` cannot be used, or does not list the files that are there.
    """
    if (path / INDEX_FILE).is_file():
        index = read_json(path / INDEX_FILE)
        with naming(path / INDEX_FILE):
            folder = _indexed(path, index)
    else:
        with naming(path):
            folder = _found(path)
    yield folder


def write(path: Path, source: Source, provenance: Provenance | None) -> None:
    """Write a folder to `path`, where nothing is yet, and nothing is left on an error; one tensor in memory at a time.

    Raises:
        CheckpointError: a dtype that numpy has not.
        OSError: the disk is full or the directory cannot be written.
    """
    path.mkdir(parents=True)
    try:
        taken = {INDEX_FILE}
        entries: dict[str, Any] = {}
        for name in source.names():
            value = source.read(name)
            file = _file_name(name, ".npy" if value.kept is None else ".npz", taken)
            _write_one(path / file, name, value)
            entries[name] = {"file": file, "shape": list(value.tensor.shape)}
        index: dict[str, Any] = {"format": _FORMAT, "schema": _SCHEMA, "tensors": entries}
        if provenance is not None:
            index["provenance"] = provenance.to_json()
        atomic.write_json(path / INDEX_FILE, index)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


class _Folder:
    """An open folder: the file of each name, and its true shape where that is known."""

    def __init__(
        self, files: Mapping[str, Path], shapes: Mapping[str, tuple[int, ...]], provenance: Provenance | None
    ) -> None:
        self._files, self._shapes, self.provenance = files, shapes, provenance

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._files))

    def read(self, name: str) -> Decoded:
        file, shape = self._files[name], self._shapes.get(name)
        with naming(file):
            if file.suffix == ".npy":
                tensor = torch.from_numpy(read_npy(file))
                if shape not in (None, tuple(tensor.shape)):
                    raise CheckpointError(f"is {tuple(tensor.shape)}, {INDEX_FILE} says {shape}")
                return Decoded(tensor, None)
            with open_archive(file) as archive:
                return _read_csr(archive, name, shape)

    def stored(self, name: str) -> tuple[str, int]:
        """How a tensor is stored, and the bytes of its file."""
        file = self._files[name]
        return ("dense" if file.suffix == ".npy" else "csr"), file.stat().st_size


def _indexed(path: Path, index: Mapping[str, Any]) -> _Folder:
    if index.get("format") != _FORMAT or not isinstance(index.get("tensors"), dict):
        raise CheckpointError(f"must have format {_FORMAT!r} and tensors; got {shown(sorted(index))}")
    if index.get("schema") != _SCHEMA:
        raise CheckpointError(f"has schema {shown(index.get('schema'))}, known is {_SCHEMA}; upgrade ntksap-export")
    files, shapes = {}, {}
    for name, entry in index["tensors"].items():
        if not isinstance(entry, dict) or set(entry) != {"file", "shape"} or not _is_file_name(entry["file"]):
            raise CheckpointError(
                f"the entry of {shown(name)} must have a file beside it and a shape; got {shown(entry)}"
            )
        files[name], shapes[name] = path / entry["file"], shape_from_json(entry["shape"])
    there = {file for file in _listed(path) if file.suffix in _SUFFIXES}
    if len(set(files.values())) != len(files):
        raise CheckpointError("gives one file to two names; write the folder again")
    if wrong := sorted(there ^ set(files.values())):
        raise CheckpointError(f"{'does not list' if wrong[0] in there else 'lists the missing'} {shown(wrong[0].name)}")
    found = index.get("provenance")
    return _Folder(files, shapes, None if found is None else Provenance.from_json(found))


def _found(path: Path) -> _Folder:
    if not path.is_dir():
        raise CheckpointError("is no directory of .npz and .npy files")
    files: dict[str, Path] = {}
    for file in _listed(path):
        if file.suffix in _SUFFIXES:
            if file.stem in files:
                raise CheckpointError(f"has {shown(file.stem)} as .npy and as .npz; remove one")
            files[file.stem] = file
    return _Folder(files, {}, None)


def _listed(path: Path) -> list[Path]:
    return sorted(file for file in path.iterdir() if not file.name.startswith("."))


def _is_file_name(value: object) -> bool:
    return isinstance(value, str) and _FILE_NAME.fullmatch(value) is not None and value.endswith(_SUFFIXES)


def _file_name(name: str, suffix: str, taken: set[str]) -> str:
    # Unique also where the file system does not tell A from a.
    file = f"{name}{suffix}"
    if not _FILE_NAME.fullmatch(file) or file.lower() in taken or name.endswith(_SUFFIXES):
        file = next(
            candidate
            for number in range(len(taken), 10**9)
            if (candidate := f"tensor_{number}{suffix}").lower() not in taken
        )
    taken.add(file.lower())
    return file


def _write_one(path: Path, name: str, value: Decoded) -> None:
    if value.tensor.dtype not in _NUMPY_HAS:
        raise CheckpointError(
            f"{shown(name)} has dtype {dtype_name(value.tensor.dtype)}, which numpy has not; "
            "convert with --dtype float32"
        )
    if value.kept is None:
        write_npy(path, value.tensor.numpy())
    else:
        write_archive(path, _csr(value.tensor, value.kept))


def _csr(tensor: torch.Tensor, kept: torch.Tensor) -> dict[str, npt.NDArray[Any]]:
    shape = matrix_shape(tuple(tensor.shape))
    rows, columns = kept.reshape(shape).numpy().nonzero()
    counts = np.bincount(rows, minlength=shape[0])
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
    index = np.int32 if max(*shape, rows.size) < 2**31 else np.int64  # as scipy chooses
    data = torch.from_numpy(patterns(tensor)[kept.view(-1).numpy()]).view(tensor.dtype)
    return {
        "indices": columns.astype(index),
        "indptr": indptr.astype(index),
        "format": np.array(b"csr"),
        "shape": np.array(shape, dtype=np.int64),
        "data": data.numpy(),
    }


def _read_csr(archive: Archive, name: str, shape: tuple[int, ...] | None) -> Decoded:
    layout = archive.text("format")
    if layout != "csr":
        raise CheckpointError(f"is a sparse matrix of format {shown(layout)}; save it with .tocsr()")
    if archive.header("shape")[1] != (2,) or archive.header("shape")[0].kind not in "iu":
        raise CheckpointError("its shape must be two numbers")
    rows, columns = shape_from_json(archive.read("shape").tolist())
    shape = (rows, columns) if shape is None else shape
    if matrix_shape(shape) != (rows, columns):
        raise CheckpointError(f"is a matrix {(rows, columns)}; {INDEX_FILE} says {shape}")
    dtype, (count, *more) = archive.header("data")[0], archive.header("data")[1] or (-1,)
    for member, length in (("indices", count), ("indptr", rows + 1)):
        kind, found = archive.header(member)
        if kind.kind not in "iu" or found != (length,) or more:
            raise CheckpointError(f"{member} must be {length} whole numbers; got {kind} {found}")
    check_dense_bytes(name, rows * columns * dtype.itemsize, (count + 2 * rows) * dtype.itemsize)
    places = _places(archive.read("indptr"), archive.read("indices"), columns, count)
    kept = torch.zeros(shape, dtype=torch.bool)
    values = torch.from_numpy(archive.read("data"))
    tensor = torch.zeros(shape, dtype=values.dtype)
    patterns(kept)[places] = 1
    patterns(tensor)[places] = patterns(values)
    if int(kept.sum()) != count:
        raise CheckpointError("stores one place twice; call .sum_duplicates() before saving it")
    return Decoded(tensor, kept)


def _places(indptr: npt.NDArray[Any], indices: npt.NDArray[Any], columns: int, count: int) -> npt.NDArray[np.int64]:
    ends = [int(indptr[0]), int(indptr[-1])]
    if ends != [0, count] or bool((indptr[1:] < indptr[:-1]).any()):
        raise CheckpointError(f"indptr must rise from 0 to {count}; the file is damaged")
    if count and not 0 <= int(indices.min()) <= int(indices.max()) < columns:
        raise CheckpointError(f"indices must be from 0 to {columns - 1}; the file is damaged")
    ends_of_rows = indptr.astype(np.int64)
    starts = np.arange(indptr.size - 1, dtype=np.int64) * columns
    places: npt.NDArray[np.int64] = np.repeat(starts, ends_of_rows[1:] - ends_of_rows[:-1])
    return places + indices.astype(np.int64)
