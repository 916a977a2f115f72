"""Tiny-ImageNet as it is distributed: a folder or the .zip itself, read in place.

    tiny-imagenet-200/wnids.txt                   its 200 classes, one name (a synset) a line
    tiny-imagenet-200/train/n01443537/images/*    training images
    tiny-imagenet-200/val/images/*                validation images
    tiny-imagenet-200/val/val_annotations.txt     of each its file, a tab, its synset (and a box)

Classes are named by their synsets, in sorted order, as in an image folder. test/ has no labels and is passed over.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ntksap_export.data.files import Files, Index, Labels, MissingFiles, some
from ntksap_export.data.folder import FolderFiles, is_image
from ntksap_export.data.zips import ZipFiles, list_zip
from ntksap_export.errors import DataError

_FOLDER = "tiny-imagenet-200"
_ANNOTATIONS = "val/val_annotations.txt"


@dataclass(frozen=True, slots=True)
class _Tree:
    """The data set's files, packed or not.

    Attributes:
        where: the folder or the zip file, for a message.
        names: of all files, below the data set's folder.
        choose: makes `Files` of some of the names and their labels.
    """

    where: str
    names: frozenset[str]
    choose: Callable[[tuple[str, ...], Labels], Files]

    def lines(self, name: str) -> list[str]:
        """The lines of a text file that are not empty."""
        if name not in self.names:
            raise DataError(f"'{self.where}' has no {name}; unpack or fetch it again")
        try:
            text = self.choose((name,), np.zeros(1, np.int64)).read(0).decode("utf-8")
        except (UnicodeDecodeError, ValueError) as error:
            raise DataError(f"'{self.where}: {name}' cannot be read ({error}); fetch it again") from error
        return [line for line in text.splitlines() if line.strip()]


def read_tiny_imagenet(root: Path) -> Index:
    """Read `root`/tiny-imagenet-200, or the .zip of that name where there is no such folder.

    Raises:
        MissingFiles: neither is there.
        DataError: files are missing, or annotations name what is not there.
    """
    folder, packed = root / _FOLDER, root / f"{_FOLDER}.zip"
    if folder.is_dir():
        tree = _of_folder(folder)
    elif packed.is_file():
        tree = _of_zip(packed)
    else:
        raise MissingFiles(folder)
    classes = tuple(sorted(line.strip() for line in tree.lines("wnids.txt")))
    return Index("tiny-imagenet", classes, _training(tree, classes), _validation(tree, classes))


def _of_folder(folder: Path) -> _Tree:
    names = frozenset(
        Path(parent, name).relative_to(folder).as_posix() for parent, _, files in os.walk(folder) for name in files
    )
    return _Tree(str(folder), names, lambda chosen, labels: FolderFiles(folder, chosen, labels))


def _of_zip(path: Path) -> _Tree:
    places = {name.removeprefix(f"{_FOLDER}/"): place for name, place in list_zip(path).items()}

    def choose(chosen: tuple[str, ...], labels: Labels) -> ZipFiles:
        table = np.array([places[name] for name in chosen], dtype=np.int64).reshape(-1, 5)
        return ZipFiles(path, chosen, table, labels)

    return _Tree(str(path), frozenset(places), choose)


def _training(tree: _Tree, classes: tuple[str, ...]) -> Files:
    label_of = {name: label for label, name in enumerate(classes)}
    pairs = []
    for name in tree.names:
        parts = name.split("/")
        if len(parts) == 4 and parts[0] == "train" and parts[2] == "images" and is_image(parts[3]):
            if parts[1] not in label_of:
                raise DataError(f"'{tree.where}' has train/{parts[1]}, which wnids.txt does not name; fetch it again")
            pairs.append((label_of[parts[1]], name))
    return _files(tree, sorted(pairs))


def _validation(tree: _Tree, classes: tuple[str, ...]) -> Files:
    label_of = {name: label for label, name in enumerate(classes)}
    pairs = []
    for line in tree.lines(_ANNOTATIONS):
        file, _, rest = line.partition("\t")
        synset = rest.partition("\t")[0].strip()
        if synset not in label_of:
            raise DataError(f"'{tree.where}: {_ANNOTATIONS}' gives {file} the unknown class '{synset}'; fetch it again")
        pairs.append((label_of[synset], f"val/images/{file}"))
    named = {name for _, name in pairs}
    if len(named) < len(pairs):
        raise DataError(f"'{tree.where}: {_ANNOTATIONS}' names an image twice; fetch it again")
    there = {name for name in tree.names if name.startswith("val/images/") and is_image(name.rpartition("/")[2])}
    _refuse(f"'{tree.where}: {_ANNOTATIONS}' names images that are not there", named - there)
    _refuse(f"'{tree.where}: {_ANNOTATIONS}' lacks images of val/images", there - named)
    return _files(tree, sorted(pairs))


def _refuse(what: str, names: Iterable[str]) -> None:
    if found := sorted(name.removeprefix("val/images/") for name in names):
        raise DataError(f"{what}: {some(found)}; fetch it again")


def _files(tree: _Tree, pairs: list[tuple[int, str]]) -> Files:
    labels = np.array([label for label, _ in pairs], dtype=np.int64)
    return tree.choose(tuple(name for _, name in pairs), labels)
