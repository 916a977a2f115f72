"""Encoded images where they lie: what a folder and a set of shards have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ntksap_export.errors import DataError

Labels = npt.NDArray[np.int64]


class Files(Protocol):
    """Encoded images and their labels, by position. Safe to read from several threads and processes."""

    @property
    def labels(self) -> Labels:
        """One label per image, 0 to k-1."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """The encoded image at position `index`."""

    def where(self, index: int) -> str:
        """Where that image lies, for a message."""


@dataclass(frozen=True, slots=True)
class Index:
    """What was found in a source, nothing decoded yet.

    Args:
        name: of the data set or its folder, without its path.
        classes: class names; the position is the label.
        train: training images.
        val: validation images.
    """

    name: str
    classes: tuple[str, ...]
    train: Files
    val: Files


class MissingFiles(DataError):
    """A file of a named data set is not there.

    Args:
        path: what was looked for.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(f"'{path}' does not exist")
        self.path = path


def some(names: Sequence[str]) -> str:
    """The first few of these, for a message."""
    shown = ", ".join(f"'{name}'" for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
