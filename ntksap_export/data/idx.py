"""MNIST and Fashion-MNIST in their own idx files, plain or as .gz, where torchvision puts them.

Y. LeCun, C. Cortes and C. Burges, 1998; H. Xiao, K. Rasul and R. Vollgraf, "Fashion-MNIST", 2017. A header of
big-endian numbers (0, 0, type 8, number of sides; then the sides), then one byte per value.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from ntksap_export.data.arrays import ArrayFiles
from ntksap_export.data.files import Index, MissingFiles
from ntksap_export.errors import DataError

_LIMIT_BYTES = 1_000_000_000
_CHUNK = 2**24
_CLOTHES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip


def read_mnist(root: Path) -> Index:
    """Read `root`/MNIST/raw.

    Raises:
        MissingFiles: a file is not there.
        DataError: one is damaged.
    """
    return _read("mnist", root / "MNIST" / "raw", tuple(str(digit) for digit in range(10)))


def read_fashion_mnist(root: Path) -> Index:
    """Read `root`/FashionMNIST/raw.

    Raises:
        MissingFiles: a file is not there.
        DataError: one is damaged.
    """
    return _read("fashion-mnist", root / "FashionMNIST" / "raw", _CLOTHES)


def _read(name: str, folder: Path, classes: tuple[str, ...]) -> Index:
    return Index(name, classes, _split(folder, "train"), _split(folder, "t10k"))


def _split(folder: Path, prefix: str) -> ArrayFiles:
    images = _values(_existing(folder / f"{prefix}-images-idx3-ubyte"), 3)
    labels = _values(_existing(folder / f"{prefix}-labels-idx1-ubyte"), 1)
    if len(images) != len(labels):
        raise DataError(f"'{folder}' has {len(images)} images and {len(labels)} labels of {prefix}; fetch them again")
    return ArrayFiles(str(folder), images[:, None], labels.astype(np.int64))


def _existing(path: Path) -> Path:
    packed = path.with_name(f"{path.name}.gz")
    if not path.is_file() and not packed.is_file():
        raise MissingFiles(path)
    return path if path.is_file() else packed


def _values(path: Path, sides: int) -> npt.NDArray[np.uint8]:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            return _parse(path, file, sides)  # type: ignore[arg-type]
    except (gzip.BadGzipFile, zlib.error, EOFError, struct.error) as error:
        raise DataError(f"'{path}' is truncated or damaged ({error}); fetch it again") from error


def _parse(path: Path, file: BinaryIO, sides: int) -> npt.NDArray[np.uint8]:
    """The values, after what the header claims was compared with what is there."""
    magic, *shape = struct.unpack(f">{1 + sides}I", file.read(4 + 4 * sides))
    if magic != 0x800 + sides:
        raise DataError(f"'{path}' is no idx file of bytes with {sides} side(s): it begins with {magic:#x}")
    size = math.prod(shape)
    if not 0 < size <= _LIMIT_BYTES:
        raise DataError(f"'{path}' claims {'x'.join(map(str, shape))} values; fetch it again")
    content = bytearray()  # grows with what is there
    while len(content) <= size and (part := file.read(min(_CHUNK, size + 1 - len(content)))):
        content += part
    if len(content) != size:
        more = "more" if len(content) > size else f"only {len(content):,}"
        raise DataError(f"'{path}' claims {size:,} bytes of values and has {more}; fetch it again")
    return np.frombuffer(content, np.uint8).reshape(shape)
