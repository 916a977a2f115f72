"""Files that appear whole or not at all: written beside, synced, then renamed."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

_DEVICES: Final = Path("/dev")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit it takes the place of `path`.

    On an error the temporary file is removed and `path` is left as it was.

    Raises:
        OSError: the disk is full, the directory cannot be written, or `path` is a device or a pipe.
    """
    check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        _keep_mode(path, temporary)
        temporary.replace(path)
        _sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a new, empty folder beside `path`; on a clean exit it takes the place of `path`, with all that was there.

    On an error it is removed and `path` is left as it was.

    Raises:
        OSError: the disk is full, the directory cannot be written, or `path` is a file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.mkdir()
    try:
        yield temporary
        sync_tree(temporary)
        replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` as UTF-8, whole or not at all."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON with sorted keys, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def canonical_json(value: Any) -> str:
    """The one JSON text of `value`: sorted keys, no spaces, ASCII. Equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def json_digest(value: Any) -> str:
    """SHA-256 of the `canonical_json` of `value`, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def sync_tree(path: Path) -> None:
    """Have a file, or every file of a folder, on the disk and not only on its way there."""
    if path.is_dir():
        for inner in path.iterdir():
            sync_tree(inner)
        _sync_directory(path)
        return
    with path.open("rb+") as handle:
        os.fsync(handle.fileno())


def replace(staged: Path, target: Path) -> None:
    """Put a synced file or folder in the place of `target`; there is no moment without the one or the other.

    A folder that stood there is afterwards at `staged`.

    Raises:
        OSError: a file and a folder cannot take each other's place, or are on two file systems; or a device or a pipe
            stands there.
    """
    check_replaceable(target)
    if staged.is_dir() and target.is_dir():
        _exchange(staged, target)
    else:
        _keep_mode(target, staged)
        staged.replace(target)
    _sync_directory(target.parent)


def _keep_mode(old: Path, new: Path) -> None:
    """What nobody else might read, nobody else may read afterwards."""
    if old.is_file() and not old.is_symlink():
        shutil.copymode(old, new)


def check_replaceable(path: Path) -> None:
    """Refuse a device, a pipe or a socket: once renamed over, /dev/null is a file, for every process of the machine.

    Raises:
        OSError: there is one at `path`, or `path` lies in /dev, where links lead to some.
    """
    try:
        mode = path.stat().st_mode
    except OSError:  # nothing is there; or writing will say what is wrong
        mode = stat.S_IFREG
    if os.path.realpath(path.parent) == str(_DEVICES) or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.ENOTSUP, "a device, a pipe or a socket is never replaced", str(path))


def _exchange(first: Path, second: Path) -> None:
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is not None and call(here, os.fsencode(first), here, os.fsencode(second), swap) == 0:
        return
    if call is not None and (code := ctypes.get_errno()) not in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        raise OSError(code, os.strerror(code), str(second))
    aside = first.with_name(f"{first.name}.old")  # this file system cannot exchange: for a moment there is neither
    second.rename(aside)
    first.rename(second)
    aside.rename(first)


def remove_leftovers(directory: Path) -> None:
    """Delete what a killed process left half-written in `directory`."""
    for leftover in directory.glob(".*.part"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
