"""What an interrupted training goes on from: a few state files, none half-written, the newest sound one found again.

The directory holds the last states (`epoch-0003.pt`: after three epochs; `epoch-0003-step-000120.pt`: and 120 steps of
the fourth), the state with the highest validation accuracy (`best.pt`), and `index.json`, which lists them with their
SHA-256. A state is one `torch.save` file of tensors and plain values; its weights stand under `model`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ntksap_export.atomic import remove_leftovers, replacing, write_json
from ntksap_export.errors import RunDirectoryError

_INDEX = "index.json"
_BEST = "best.pt"


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Where and how often a training is saved.

    Args:
        directory: for these files alone; made if need be.
        fingerprint: what the states belong to; others are refused.
        keep: how many of the last states stay, at least 1; two, so that a damaged one is no loss.
        minutes: between two saves within an epoch; one is made after every epoch besides.
    """

    directory: Path
    fingerprint: str = ""
    keep: int = 2
    minutes: float = 10.0


@dataclass(frozen=True, slots=True)
class Saved:
    """One state file. `epoch` epochs are done, and `step` steps of the next one."""

    name: str
    sha256: str
    epoch: int
    step: int
    val_accuracy: float | None

    def __str__(self) -> str:
        return f"epoch {self.epoch}" + (f" and {self.step} steps" if self.step else "")


@dataclass(frozen=True, slots=True)
class _Index:
    fingerprint: str
    newest: tuple[Saved, ...]  # the newest last
    best: Saved | None


def save_state(where: Checkpoints, content: dict[str, Any], epoch: int, step: int, accuracy: float | None) -> None:
    """Write a state, and forget those that are old.

    Args:
        where: the directory.
        content: tensors and plain values.
        epoch: epochs done.
        step: steps done of the next one.
        accuracy: on the validation images, after an epoch; the highest of a training is kept as best.pt.

    Raises:
        OSError: it cannot be written; what was there before is still whole.
    """
    where.directory.mkdir(parents=True, exist_ok=True)
    index = _read_index(where) or _Index(where.fingerprint, (), None)
    name = f"epoch-{epoch:04d}" + (f"-step-{step:06d}" if step else "") + ".pt"
    with replacing(where.directory / name) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # torch's word for a write that failed
            raise OSError(errno.EIO, f"torch could not write it ({error})", str(where.directory / name)) from error
        digest = _digest(temporary)
    saved = Saved(name, digest, epoch, step, accuracy)
    best = index.best
    if accuracy is not None and (best is None or best.val_accuracy is None or accuracy > best.val_accuracy):
        _copy(where.directory / name, where.directory / _BEST)
        best = replace(saved, name=_BEST)
    others = tuple(other for other in index.newest if other.name != name)
    _write_index(where, _Index(where.fingerprint, (*others, saved)[-where.keep :], best))


def newest_state(where: Checkpoints, say: Callable[[str], None]) -> Saved | None:
    """The newest state that is as it was written; None if there is none at all. Damaged ones are said and passed over.

    Raises:
        RunDirectoryError: states of another training, or none that is sound.
    """
    remove_leftovers(where.directory)
    index = _read_index(where)
    if index is None or not index.newest:
        return None
    if index.fingerprint != where.fingerprint:
        raise RunDirectoryError(
            f"'{where.directory}' belongs to a training under another mask; delete it to train from the start"
        )
    states = index.newest if index.best is None else (index.best, *index.newest)
    for saved in reversed(states):
        path = where.directory / saved.name
        if path.is_file() and _digest(path) == saved.sha256:
            return saved
        say(f"warning: '{path}' is missing or damaged; the state before it is used")
    raise RunDirectoryError(
        f"no state in '{where.directory}' is as it was written; delete that directory to train from the start"
    )


def read_state(where: Checkpoints, saved: Saved) -> dict[str, Any]:
    """The content of a state that `newest_state` found, on the CPU.

    Raises:
        RunDirectoryError: it cannot be read after all.
    """
    path = where.directory / saved.name
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the unpickler trips over
        raise RunDirectoryError(f"'{path}' cannot be read ({type(error).__name__}); delete it to go on") from error
    return content


def forget_states(directory: Path, but_best: bool = False) -> None:
    """Delete what is there, or all but best.pt: of a training that is finished, or given up."""
    if not but_best or not (directory / _BEST).is_file():
        shutil.rmtree(directory, ignore_errors=True)
        return
    for path in directory.iterdir():
        if path.name != _BEST:
            path.unlink(missing_ok=True)


def last_saved(where: Checkpoints) -> Saved | None:
    """The last state, for a message."""
    index = _read_index(where)
    return index.newest[-1] if index and index.newest else None


def _read_index(where: Checkpoints) -> _Index | None:
    path = where.directory / _INDEX
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        newest = tuple(_saved(entry) for entry in table["newest"])
        best = None if table["best"] is None else _saved(table["best"])
        return _Index(str(table["fingerprint"]), newest, best)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise RunDirectoryError(
            f"'{path}' cannot be read ({type(error).__name__}); delete '{where.directory}' to train from the start"
        ) from error


def _saved(entry: dict[str, Any]) -> Saved:
    saved = Saved(**entry)
    if not (isinstance(saved.name, str) and Path(saved.name).name == saved.name):
        raise ValueError(saved.name)  # a path that leads elsewhere
    return saved


def _write_index(where: Checkpoints, index: _Index) -> None:
    write_json(
        where.directory / _INDEX,
        {
            "schema": 1,
            "fingerprint": index.fingerprint,
            "newest": [asdict(saved) for saved in index.newest],
            "best": None if index.best is None else asdict(index.best),
        },
    )
    listed = {_INDEX, _BEST, *(saved.name for saved in index.newest)}
    for path in where.directory.glob("*.pt"):
        if path.name not in listed:
            path.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    """A second name for the same file; a copy where the file system has no links."""
    with replacing(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
