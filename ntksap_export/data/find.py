"""From what the user names to a list of its files: a data set of the table, or a folder in one of its layouts."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Final

import numpy as np

from ntksap_export.data.fetch import fetch
from ntksap_export.data.files import Index, MissingFiles, some
from ntksap_export.data.folder import read_folder
from ntksap_export.data.hub import is_saved, parquet_home, read_parquet, read_saved
from ntksap_export.data.shards import read_pattern, read_shards
from ntksap_export.data.spec import check_classes
from ntksap_export.data.table import DATA_SETS, Description
from ntksap_export.errors import DataError

HOME_VARIABLE: Final = "NTKSAP_DATA"


def data_home(data_dir: str | Path | None) -> Path:
    """The folder that holds the data sets with a name.

    Args:
        data_dir: None takes the environment's NTKSAP_DATA, or ~/.cache/ntksap.
    """
    return Path(data_dir or os.environ.get(HOME_VARIABLE) or "~/.cache/ntksap").expanduser()


def find_source(source: str, data_dir: str | Path | None = None, download: bool = False) -> Index:
    """List the images of a source, nothing decoded yet.

    Args:
        source: a name of the table, which wins over a folder of that name (that is ./NAME), a folder, or a brace
            pattern of shards.
        data_dir: where the data sets with a name lie; see `data_home`.
        download: whether one that is not there is fetched.

    Raises:
        ConfigError: it is to be downloaded and cannot be.
        UnavailableError: it is to be downloaded and torchvision is not installed.
        DataError: it is not there, or cannot be used: a class without training images, a label out of range ...
    """
    description = DATA_SETS.get(source)
    if description is None or description.reader is None:
        index = _find_folder(source)
    else:
        index = _read_named(source, description, data_home(data_dir), download)
    _check(source, index)
    return index


def _read_named(name: str, description: Description, root: Path, download: bool) -> Index:
    module, _, function = str(description.reader).partition(":")
    read = getattr(import_module(module), function)
    index: Index
    try:
        index = read(root)
    except MissingFiles as missing:
        if not download:
            way = "give --download, or get it" if description.fetch else "get it"
            raise DataError(
                f"{name} is not wholly here: '{missing.path}' does not exist; {way} from {description.home} and put "
                f"{description.layout} in '{root}' (--data-dir names another folder)"
            ) from missing
        fetch(name, description, root)
        index = read(root)
    if len(index.classes) != description.classes:
        raise DataError(
            f"{name} in '{root}' has {len(index.classes)} classes; there are {description.classes}. "
            f"Give another data set by its path, as --data ./{name}"
        )
    return index


def _find_folder(source: str) -> Index:
    root = Path(source)
    if "{" in source and not root.exists():
        return read_pattern(source)
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DataError(f"data '{source}' {what}; give a name from `ntksap list data` or a folder")
    if is_saved(root):
        return read_saved(root)
    parquet = parquet_home(root)
    found = {
        "train/": (root / "train").is_dir(),
        "train-*.tar": any(root.glob("train-*.tar")),
        "train-*.parquet": parquet is not None,
    }
    kinds = [kind for kind, is_there in found.items() if is_there]
    if len(kinds) > 1:
        raise DataError(f"'{source}' holds both {' and '.join(kinds)}; keep one of them")
    if parquet is not None:
        return read_parquet(parquet, root)
    if not kinds:
        raise DataError(
            f"'{source}' holds no train/, train-*.tar or train-*.parquet; put images in train/CLASS/ and val/CLASS/"
        )
    return read_folder(root) if kinds == ["train/"] else read_shards(root)


def _check(source: str, index: Index) -> None:
    """What no format may hold: found before anything is decoded."""
    classes = index.classes
    check_classes(source, classes, None)
    twice = sorted({name for name in classes if classes.count(name) > 1}) if len(set(classes)) < len(classes) else []
    if twice:
        raise DataError(f"'{source}' has two classes of the same name: {some(twice)}; rename one")
    for split, files in (("training", index.train), ("validation", index.val)):
        if not len(files):
            raise DataError(f"'{source}' has no {split} images; add some")
        wrong = np.flatnonzero((files.labels < 0) | (files.labels >= len(classes)))
        if len(wrong):
            where, label = files.where(int(wrong[0])), int(files.labels[wrong[0]])
            raise DataError(f"'{where}' has label {label}; there are {len(classes)} classes, 0 to {len(classes) - 1}")
    counts = np.bincount(index.train.labels, minlength=len(classes))
    empty = [classes[label] for label in np.flatnonzero(counts == 0)]
    if empty:
        raise DataError(f"'{source}' has classes without training images: {some(empty)}; add some or drop the class")
