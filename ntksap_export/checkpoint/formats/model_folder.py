"""A folder as timm and Hugging Face write it: config.json beside the weights, in one file or in shards. Read only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch

from ntksap_export.checkpoint.formats import dense, torch_file
from ntksap_export.checkpoint.formats.files import is_index, read_index
from ntksap_export.checkpoint.formats.folding import FoldedSource
from ntksap_export.checkpoint.source import Source
from ntksap_export.errors import CheckpointError
from ntksap_export.quoting import shown

# In the order in which both libraries look for them.
_WEIGHTS: Final = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def matches(path: Path) -> bool:
    """Whether it is a folder with config.json and weights under one of the usual names; or an index of .bin shards."""
    if path.is_file():
        return is_index(path)  # of safetensors shards it is recognised before
    return (path / "config.json").is_file() and any((path / name).is_file() for name in _WEIGHTS)


def pieces(path: Path) -> tuple[Path, ...]:
    """The files that hold the weights."""
    file = _weights(path)
    return (file, *sorted(set(read_index(file).values()))) if is_index(file) else (file,)


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open it; values are read when asked for.

    Raises:
        CheckpointError: it is damaged, or its masks do not fit its weights.
    """
    file = _weights(path)
    if dense.matches(file):
        with dense.open_source(file) as source:
            yield source
    elif is_index(file):
        yield FoldedSource(_Shards(file), str(file))
    else:
        with torch_file.open_source(file) as source:
            yield source


def _weights(path: Path) -> Path:
    if path.is_file():
        return path
    return next(path / name for name in _WEIGHTS if (path / name).is_file())


class _Shards:
    """The tensors of several files of torch.save."""

    def __init__(self, index: Path) -> None:
        places = read_index(index)
        loaded = {file: torch_file.state_dict(file) for file in sorted(set(places.values()))}
        for name, file in places.items():
            if name not in loaded[file]:
                raise CheckpointError(f"{index}: puts {shown(name)} into {shown(file.name)}, which has not got it")
        self._tensors = {name: loaded[file][name] for name, file in places.items()}
        self._bytes = {name: file.stat().st_size for name, file in places.items()}

    def names(self) -> Iterable[str]:
        return self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name].shape)

    def read(self, name: str) -> torch.Tensor:
        return torch_file.dense_tensor(name, self._tensors[name], self._bytes[name])
