"""WebDataset shards: train-*.tar and val-*.tar (or test-*.tar) of KEY.jpg + KEY.cls pairs, read in place.

They are the shards in a folder, or those that a brace pattern names.

The key of a member is its path up to the first dot of its last part. Nothing is extracted or unpickled: the
tar headers give offsets, and images are read from there.
"""

from __future__ import annotations

import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from ntksap_export.data.braces import expand
from ntksap_export.data.files import Index, Labels, some
from ntksap_export.data.spec import MAX_CLASSES
from ntksap_export.errors import DataError

_IMAGES = frozenset({"jpg", "jpeg", "png", "webp"})
_BLOCK = 512  # bytes; tar's unit


@dataclass(frozen=True, slots=True, eq=False)
class ShardFiles:
    """Images that are members of tar files.

    Args:
        shards: the tar files.
        names: member name of each image.
        places: int64 (images, 3): number of the shard, offset and size in bytes.
        labels: one per image.
    """

    shards: tuple[Path, ...]
    names: tuple[str, ...]
    places: npt.NDArray[np.int64]
    labels: Labels

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> bytes:
        """The bytes of the member at position `index`."""
        shard, offset, size = self.places[index].tolist()
        with self.shards[shard].open("rb", buffering=0) as file:
            file.seek(offset)
            return bytes(file.read(size))

    def announce(self, indices: list[int]) -> None:
        """Tell the system which images are read next, so that it fetches them while others are decoded."""
        if not hasattr(os, "posix_fadvise"):
            return
        places = self.places[indices]
        for shard in np.unique(places[:, 0]).tolist():
            with self.shards[shard].open("rb", buffering=0) as file:
                for _, offset, size in places[places[:, 0] == shard].tolist():
                    os.posix_fadvise(file.fileno(), offset, size, os.POSIX_FADV_WILLNEED)

    def where(self, index: int) -> str:
        """Its tar file and its name there."""
        return f"{self.shards[int(self.places[index, 0])]}: {self.names[index]}"


@dataclass(slots=True)
class _Sample:
    """What is known so far of one key."""

    image: tarfile.TarInfo | None = None
    label: int | None = None


def read_shards(root: Path) -> Index:
    """List the shards in a folder, without decoding an image.

    Args:
        root: holds train-*.tar, val-*.tar or test-*.tar (val if both), and maybe classes.txt with one name a
            line; without it the classes are called "0" to "k-1", k - 1 being the largest training label.

    Raises:
        DataError: no shards for validation, a truncated shard, a sample that lacks its label or its image, a
            label that is not a number or has no class.
    """
    val = sorted(root.glob("val-*.tar")) or sorted(root.glob("test-*.tar"))
    if not val:
        raise DataError(f"'{root}' has train-*.tar but no val-*.tar or test-*.tar; add held-out shards")
    return _read(root, sorted(root.glob("train-*.tar")), val)


def read_pattern(pattern: str) -> Index:
    """List the shards that a brace pattern names; the first part of a file's name says what it is for.

    Args:
        pattern: as `DIR/{train,val}-{000..012}.tar`; classes.txt is looked for beside the first training shard.

    Raises:
        ConfigError: it cannot be expanded.
        DataError: a shard is missing, or as `read_shards`.
    """
    shards = [Path(name) for name in expand(pattern)]
    missing = [str(path) for path in shards if not path.is_file()]
    if missing:
        raise DataError(f"'{pattern}' names shards that are not there: {some(missing)}")
    if len(set(shards)) < len(shards):
        raise DataError(f"'{pattern}' names a shard twice; write each once")
    kinds: dict[str, list[Path]] = {"train": [], "val": [], "test": []}
    for path in shards:
        kind = path.name.partition("-")[0]
        if kind not in kinds or path.suffix != ".tar":
            raise DataError(f"'{path}' must be called train-*.tar, val-*.tar or test-*.tar, to say what it is for")
        kinds[kind].append(path)
    val = kinds["val"] or kinds["test"]
    if not kinds["train"] or not val:
        lacks = "train-*.tar" if not kinds["train"] else "val-*.tar or test-*.tar"
        raise DataError(f"'{pattern}' names no {lacks}; write it as DIR/{{train,val}}-{{000..012}}.tar")
    return _read(kinds["train"][0].parent, kinds["train"], val)


def _read(root: Path, train: list[Path], val: list[Path]) -> Index:
    names = _class_names(root / "classes.txt")
    train_files = _list_split(train, names)
    val_files = _list_split(val, names)
    if names is None:
        names = tuple(str(label) for label in range(int(train_files.labels.max()) + 1))
        unknown = sorted({int(label) for label in val_files.labels if label >= len(names)})
        if unknown:
            raise DataError(
                f"'{root}' has labels for validation that no training sample has: {unknown[:5]}; "
                "remove those samples or add classes.txt"
            )
    return Index(root.resolve().name, names, train_files, val_files)


def _class_names(path: Path) -> tuple[str, ...] | None:
    if not path.is_file():
        return None
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}' is not UTF-8 ({error.reason}); write one class name a line") from error
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"'{path}' names '{twice[0]}' twice; every class needs a name of its own")
    return names


def _list_split(shards: list[Path], classes: tuple[str, ...] | None) -> ShardFiles:
    names: list[str] = []
    places: list[tuple[int, int, int]] = []
    labels: list[int] = []
    limit = MAX_CLASSES if classes is None else len(classes)
    for number, shard in enumerate(shards):
        for member, label in _read_shard(shard, limit):
            names.append(member.name)
            places.append((number, member.offset_data, member.size))
            labels.append(label)
    if not names:
        raise DataError(f"'{shards[0]}' holds no samples; a sample is KEY.jpg and KEY.cls")
    table = np.array(places, dtype=np.int64).reshape(-1, 3)
    return ShardFiles(tuple(shards), tuple(names), table, np.array(labels, dtype=np.int64))


def _read_shard(shard: Path, limit: int) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """Each image of a shard with its label, in the order of the first member of each sample."""
    samples: dict[str, _Sample] = {}
    with shard.open("rb") as file:
        for member in _members(shard, file):
            folder, slash, base = member.name.rpartition("/")
            stem, _, extension = base.partition(".")
            if extension.lower() not in _IMAGES and extension.lower() != "cls":
                continue
            sample = samples.setdefault(folder + slash + stem, _Sample())
            if extension.lower() == "cls":
                sample.label = _label(f"{shard}: {member.name}", file, member, limit)
            elif sample.image is not None:
                raise DataError(f"'{shard}' has two images of one sample: {sample.image.name}, {member.name}; keep one")
            else:
                sample.image = member
    for key, sample in samples.items():
        if sample.image is None or sample.label is None:
            lacks = "image" if sample.image is None else ".cls"
            raise DataError(f"sample '{key}' in '{shard}' has no {lacks}; a sample is KEY.jpg and KEY.cls")
        yield sample.image, sample.label


def _members(shard: Path, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """The regular members of a tar file, each checked to be wholly there.

    tarfile takes a file cut between two members for a complete one; the block of zeros that ends a tar tells.
    """
    length = shard.stat().st_size
    end = 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                end = member.offset_data
                if member.isreg():
                    end += -(-member.size // _BLOCK) * _BLOCK
                    if end > length or member.sparse is not None:
                        break
                    yield member
    except tarfile.TarError as error:
        raise DataError(f"shard '{shard}' is truncated or no tar file ({error}); fetch it again") from error
    file.seek(end)
    if file.read(_BLOCK) != bytes(_BLOCK):
        near = f"near byte {min(end, length)} of {length}"
        raise DataError(f"shard '{shard}' is truncated or damaged {near}; fetch it again")


def _label(where: str, file: BinaryIO, member: tarfile.TarInfo, limit: int) -> int:
    file.seek(member.offset_data)
    text = file.read(min(member.size, 20)).decode("ascii", errors="replace").strip()
    if not (text.isascii() and text.isdecimal() and member.size <= 20):
        raise DataError(f"'{where}' must hold a class number in decimal; got {text!r}")
    if int(text) >= limit:
        raise DataError(f"'{where}' holds class {int(text)}; there are {limit} classes, 0 to {limit - 1}")
    return int(text)
