"""CIFAR-10 and CIFAR-100 in their own files for Python, which torchvision unpacks too.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. A file is a pickled dict with `data`,
uint8 (N, 3072) by channel, row and column, and `labels` (CIFAR-100: `fine_labels`); class names lie in a file of
their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ntksap_export.data.arrays import ArrayFiles
from ntksap_export.data.files import Index, MissingFiles
from ntksap_export.data.unpickle import read_pickle
from ntksap_export.errors import DataError

_SIDE = 32


def read_cifar10(root: Path) -> Index:
    """Read `root`/cifar-10-batches-py.

    Raises:
        MissingFiles: a file is not there.
        DataError: one is damaged.
    """
    batches = tuple(f"data_batch_{number}" for number in range(1, 6))
    return _read("cifar10", root / "cifar-10-batches-py", batches, ("test_batch",), "batches.meta", "label")


def read_cifar100(root: Path) -> Index:
    """Read `root`/cifar-100-python, with its 100 fine classes.

    Raises:
        MissingFiles: a file is not there.
        DataError: one is damaged.
    """
    return _read("cifar100", root / "cifar-100-python", ("train",), ("test",), "meta", "fine_label")


def _read(name: str, folder: Path, train: tuple[str, ...], val: tuple[str, ...], meta: str, key: str) -> Index:
    for file in (*train, *val, meta):
        if not (folder / file).is_file():
            raise MissingFiles(folder / file)
    classes = _class_names(folder / meta, f"{key}_names")
    return Index(name, classes, _files(folder, train, f"{key}s"), _files(folder, val, f"{key}s"))


def _class_names(path: Path, key: str) -> tuple[str, ...]:
    names = read_pickle(path).get(key)
    if not isinstance(names, list) or not all(isinstance(name, str | bytes) for name in names):
        raise DataError(f"'{path}' holds no list {key}; fetch it again")
    return tuple(name.decode("ascii", "replace") if isinstance(name, bytes) else name for name in names)


def _files(folder: Path, names: tuple[str, ...], key: str) -> ArrayFiles:
    parts = [_batch(folder / name, read_pickle(folder / name), key) for name in names]
    pixels = np.concatenate([pixels for pixels, _ in parts])
    return ArrayFiles(str(folder), pixels, np.concatenate([labels for _, labels in parts]))


def _batch(path: Path, content: dict[str, Any], key: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Pixels (N, 3, 32, 32) and labels (N,) of one file."""
    data, labels = content.get("data"), content.get(key)
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != 3 * _SIDE**2:
        raise DataError(f"'{path}' holds no data of {3 * _SIDE**2} bytes an image; fetch it again")
    if not isinstance(labels, list) or len(labels) != len(data):
        raise DataError(f"'{path}' holds {len(data)} images and not as many {key}; fetch it again")
    if not all(type(label) is int and abs(label) < 2**31 for label in labels):
        raise DataError(f"'{path}' has {key} that are no numbers; fetch it again")
    return data.reshape(-1, 3, _SIDE, _SIDE), np.array(labels, dtype=np.int64)
