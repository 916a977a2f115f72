"""A checkpoint in several files: `NAME.index.json`, as transformers writes it, says which file holds what.

    {"metadata": {"total_size": bytes}, "weight_map": {tensor of a file: the file's name}}

The index is the checkpoint: files are named by their content, so that a new one never overwrites what an old index
still points to, and they count from the moment that the index takes its place.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ntksap_export import atomic
from ntksap_export.checkpoint.json_file import json_object
from ntksap_export.errors import CheckpointError
from ntksap_export.quoting import shown

INDEX_SUFFIX: Final = ".index.json"
_MOST_NAME_BYTES: Final = 255  # as file systems allow


def index_of(path: Path) -> Path:
    """Where the index of the checkpoint `path` stands."""
    return path if path.name.endswith(INDEX_SUFFIX) else path.with_name(path.name + INDEX_SUFFIX)


def is_sharded(path: Path) -> bool:
    """Whether `path` is an index, or has one and is no file itself."""
    return path.name.endswith(INDEX_SUFFIX) or (not path.exists() and index_of(path).is_file())


@dataclass(frozen=True, slots=True)
class Index:
    """Which file, by its plain name, holds which tensor, and the bytes of all tensors together."""

    files: Mapping[str, str]
    total_bytes: object


def read_index(path: Path) -> Index:
    """The index at `path`.

    Raises:
        CheckpointError: it is missing, too large, no index, or names a file elsewhere.
    """
    found = json_object(path)
    files = found.get("weight_map")
    if not isinstance(files, dict) or not files or not all(isinstance(name, str) for name in files.values()):
        raise CheckpointError(f"must have a weight_map of tensors to files; got {shown(found)}")
    for name in files.values():
        if not _is_plain(name):
            raise CheckpointError(f"names the file {shown(name)}; files must lie beside the index")
    told = found.get("metadata")
    return Index(files, told.get("total_size") if isinstance(told, dict) else None)


def _is_plain(name: str) -> bool:
    # Printable: no name that the system cannot take, and none that breaks the line of a message.
    plain = name == Path(name).name and name not in ("", ".", "..")
    return plain and name.isprintable() and len(name.encode()) <= _MOST_NAME_BYTES


@dataclass(frozen=True, slots=True)
class Shard:
    """A finished file that has no name yet, and the bytes of each of its tensors."""

    file: Path
    sizes: Mapping[str, int]


def place(file: Path, path: Path) -> None:
    """Give a finished file its name; what a checkpoint of several files left there is removed after it.

    Args:
        file: in the directory of `path`.
        path: of the checkpoint.
    """
    before = _own_files(path)
    _rename(file, path)
    index_of(path).unlink(missing_ok=True)
    _remove(path, before)


def place_shards(path: Path, shards: Sequence[Shard]) -> None:
    """Give finished files their names, then put the index in its place, and only then remove what it replaces.

    Args:
        path: of the checkpoint, as if it were one file.
        shards: in the directory of `path`.
    """
    before = _own_files(path)
    digest = hashlib.sha256()
    for shard in shards:
        with shard.file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    count = len(shards)
    names = [f"{path.stem}-{digest.hexdigest()[:8]}-{i:05d}-of-{count:05d}{path.suffix}" for i in range(1, count + 1)]
    for shard, name in zip(shards, names, strict=True):
        _rename(shard.file, path.with_name(name))
    weight_map = {part: name for shard, name in zip(shards, names, strict=True) for part in shard.sizes}
    total = sum(sum(shard.sizes.values()) for shard in shards)
    atomic.write_json(index_of(path), {"metadata": {"total_size": total}, "weight_map": weight_map})
    path.unlink(missing_ok=True)
    _remove(path, before - set(names))


def to_remove(path: Path) -> tuple[Path, ...]:
    """What a checkpoint of several files left at `path`: its index and the files it binds; nothing where there is none.

    Raises:
        CheckpointError: an index stands there that this module has not written.
    """
    index = index_of(path)
    if index == path or not index.exists():
        return ()
    own = _own_files(path)
    if not own or own != set(read_index(index).files.values()):
        raise CheckpointError(
            f"'{index}' binds files of other names than ntksap's and would stand beside '{path.name}'; "
            "name another TARGET or remove it"
        )
    return (index, *(path.with_name(name) for name in sorted(own)))


def _rename(file: Path, path: Path) -> None:
    with atomic.replacing(path) as beside:
        file.replace(beside)


def _own_files(path: Path) -> set[str]:
    """Files of the index at hand that `place_shards` has named; none where there is no sound index."""
    ours = re.compile(rf"{re.escape(path.stem)}-[0-9a-f]{{8}}-\d{{5}}-of-\d{{5}}{re.escape(path.suffix)}")
    try:
        return {name for name in read_index(index_of(path)).files.values() if ours.fullmatch(name)}
    except CheckpointError:
        return set()


def _remove(path: Path, names: set[str]) -> None:
    for name in names:
        path.with_name(name).unlink(missing_ok=True)
