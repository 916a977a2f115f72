"""An image folder: train/CLASS/IMAGE and val/CLASS/IMAGE (or test/), the layout that most tools read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ntksap_export.data.files import Index, Labels, MissingFiles, some
from ntksap_export.data.images import SUFFIXES
from ntksap_export.data.spec import check_classes
from ntksap_export.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class FolderFiles:
    """Images that are files of their own.

    Args:
        root: the folder of the split.
        names: paths below `root`, in the order of the labels.
        labels: one per name.
    """

    root: Path
    names: tuple[str, ...]
    labels: Labels

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> bytes:
        """The bytes of the file at position `index`."""
        return (self.root / self.names[index]).read_bytes()

    def where(self, index: int) -> str:
        """Its path."""
        return str(self.root / self.names[index])


def read_folder(root: Path) -> Index:
    """List an image folder; classes are the sorted names of the folders in train/.

    Hidden files, and files that are not images by their ending, are passed over.

    Args:
        root: holds train/ and val/ or test/; val/ is taken if both are there.

    Raises:
        DataError: no val/ or test/, fewer than 2 classes, an empty class folder, a class that train/ lacks.
    """
    val = next((root / name for name in ("val", "test") if (root / name).is_dir()), None)
    if val is None:
        raise DataError(f"'{root}' has train/ but no val/ or test/; put held-out images in val/CLASS/")
    train = root / "train"
    classes = _class_folders(train)
    check_classes(str(train), classes, None)
    unknown = [name for name in _class_folders(val) if name not in set(classes)]
    if unknown:
        raise DataError(f"'{val}' has classes that '{train}' lacks: {some(unknown)}; remove or rename them")
    return Index(root.resolve().name, classes, _list_split(train, classes), _list_split(val, classes))


def read_imagenet(root: Path) -> Index:
    """List `root`/imagenet, with the images in train/ and val/ sorted into folders of their synsets.

    Raises:
        MissingFiles: it has no train/.
        DataError: as `read_folder`.
    """
    if not (root / "imagenet" / "train").is_dir():
        raise MissingFiles(root / "imagenet" / "train")
    return read_folder(root / "imagenet")


def _class_folders(split: Path) -> tuple[str, ...]:
    entries = [entry for entry in split.iterdir() if not entry.name.startswith(".")]
    if lost := sorted(str(entry) for entry in entries if not entry.exists()):
        raise DataError(f"links that lead nowhere: {some(lost)}; mount what they name, or remove them")
    return tuple(sorted(entry.name for entry in entries if entry.is_dir()))


def _list_split(split: Path, classes: tuple[str, ...]) -> FolderFiles:
    names: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        if not (split / name).is_dir():
            continue  # validation need not hold every class
        with os.scandir(split / name) as entries:  # a pipe of an image's name would be waited for without end
            found = sorted(entry.name for entry in entries if is_image(entry.name) and entry.is_file())
        if not found:
            raise DataError(f"class folder '{split / name}' holds no images; add some or remove the folder")
        names.extend(f"{name}/{image}" for image in found)
        labels.extend([label] * len(found))
    if not names:
        raise DataError(f"'{split}' holds no class folders; put images in {split.name}/CLASS/")
    return FolderFiles(split, tuple(names), np.array(labels, dtype=np.int64))


def is_image(name: str) -> bool:
    """Whether a file is an image by its name, and not hidden."""
    return Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
