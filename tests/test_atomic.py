from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ntksap_export.atomic import (
    canonical_json,
    check_replaceable,
    remove_leftovers,
    replace,
    replacing,
    replacing_folder,
    write_bytes,
    write_json,
    write_text,
)

WRITERS: dict[str, Callable[[Path], None]] = {
    "bytes": lambda path: write_bytes(path, b"new"),
    "text": lambda path: write_text(path, "new"),
    "json": lambda path: write_json(path, "new"),
}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    return path


def _names(directory: Path) -> list[str]:
    return sorted(item.name for item in directory.iterdir())


def test_a_clean_exit_replaces_the_file_at_once(old: Path) -> None:
    with replacing(old) as temporary:
        temporary.write_bytes(b"new")
        during = old.read_bytes()

    assert b"old" == during
    assert b"new" == old.read_bytes()
    assert ["file.bin"] == _names(old.parent)


def test_temporary_file_is_a_neighbour_of_another_name(old: Path) -> None:
    with pytest.raises(ZeroDivisionError), replacing(old) as temporary:
        names = (temporary.parent, temporary.name.startswith("."), temporary.suffix)
        raise ZeroDivisionError

    assert (old.parent, True, ".part") == names


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt])
@pytest.mark.parametrize("written", [True, False])
def test_an_exception_leaves_the_old_file_and_no_leftover(old: Path, error: type[BaseException], written: bool) -> None:
    with pytest.raises(error), replacing(old) as temporary:
        if written:
            temporary.write_bytes(b"half")
        raise error

    assert b"old" == old.read_bytes()
    assert ["file.bin"] == _names(old.parent)


def test_an_exception_makes_no_new_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError), replacing(tmp_path / "file.bin") as temporary:
        temporary.write_bytes(b"half")
        raise ValueError

    assert [] == _names(tmp_path)


def test_a_body_that_writes_nothing_is_an_error(old: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(old):
        pass

    assert b"old" == old.read_bytes()


@pytest.mark.parametrize(
    ("name", "content"), [("bytes", b"new"), ("text", b"new"), ("json", b'"new"\n')], ids=list(WRITERS)
)
def test_writers_make_directories_and_replace(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / "a" / "b" / "file"
    WRITERS[name](path)
    WRITERS[name](path)

    assert content == path.read_bytes()
    assert ["file"] == _names(path.parent)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("step", ["write", "sync", "rename"])
def test_writers_keep_the_old_file_when_the_disk_fails(
    old: Path, name: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    owner: Any = os if step == "sync" else Path
    monkeypatch.setattr(owner, {"write": "write_bytes", "sync": "fsync", "rename": "replace"}[step], fail)

    with pytest.raises(OSError, match="No space left"):
        WRITERS[name](old)

    assert b"old" == old.read_bytes()
    assert ["file.bin"] == _names(old.parent)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {1, 2}, {"key": object()}], ids=["nan", "inf", "set", "object"]
)
def test_json_that_cannot_be_written_keeps_the_old_file(old: Path, value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        write_json(old, value)

    assert b"old" == old.read_bytes()
    assert ["file.bin"] == _names(old.parent)


def test_text_is_utf8_and_json_is_sorted_and_readable(tmp_path: Path) -> None:
    write_text(tmp_path / "text", "é\n")
    write_json(tmp_path / "json", {"b": [1, None], "a": 0.5})

    assert b"\xc3\xa9\n" == (tmp_path / "text").read_bytes()
    assert b'{\n  "a": 0.5,\n  "b": [\n    1,\n    null\n  ]\n}\n' == (tmp_path / "json").read_bytes()


def test_canonical_json_is_one_text_for_equal_values() -> None:
    assert '{"a":[1,"\\u00e9"],"b":null}' == canonical_json({"b": None, "a": [1, "é"]})
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


def test_content_is_synced_before_it_takes_the_name(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    sync = os.fsync

    def watch(descriptor: int) -> None:
        seen.append(old.read_bytes())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    write_bytes(old, b"new")

    assert [b"old", b"new"] == seen  # the file, then its directory


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("name", WRITERS)
def test_read_only_directory_is_an_error(old: Path, name: str) -> None:
    old.parent.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            WRITERS[name](old)
    finally:
        old.parent.chmod(0o700)

    assert b"old" == old.read_bytes()


@pytest.mark.parametrize("name", WRITERS)
def test_directory_that_is_a_file_is_an_error(old: Path, name: str) -> None:
    with pytest.raises(OSError, match=r"file\.bin"):
        WRITERS[name](old / "inner")

    assert b"old" == old.read_bytes()
    assert ["file.bin"] == _names(old.parent)


@pytest.mark.parametrize("name", WRITERS)
def test_name_that_is_a_directory_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "taken").mkdir()

    with pytest.raises(OSError, match="taken"):
        WRITERS[name](tmp_path / "taken")

    assert ["taken"] == _names(tmp_path)


def test_a_killed_writer_leaves_the_old_file_and_what_can_be_removed(old: Path) -> None:
    code = """
import os, pathlib, signal, sys
from ntksap_export.atomic import replacing
with replacing(pathlib.Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code, str(old)], check=False, timeout=60)
    between = _names(old.parent)

    remove_leftovers(old.parent)

    assert -9 == done.returncode
    assert 2 == len(between)
    assert ["file.bin"] == _names(old.parent)
    assert b"old" == old.read_bytes()


def test_remove_leftovers_takes_half_written_things_only(tmp_path: Path) -> None:
    for name in (".a.1.part", ".b.22.part", "kept.part", ".hidden", "plain"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".c.3.part").mkdir()
    (tmp_path / ".c.3.part" / "inner").write_bytes(b"")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / ".d.4.part").write_bytes(b"")

    remove_leftovers(tmp_path)
    remove_leftovers(tmp_path)

    assert [".hidden", "below", "kept.part", "plain"] == _names(tmp_path)
    assert [".d.4.part"] == _names(tmp_path / "below")


def test_remove_leftovers_of_a_missing_directory_does_nothing(tmp_path: Path) -> None:
    remove_leftovers(tmp_path / "absent")

    assert [] == _names(tmp_path)


def test_a_pipe_is_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    for write in WRITERS.values():
        with pytest.raises(OSError, match="a device, a pipe or a socket is never replaced"):
            write(pipe)

    assert (True, ["pipe"]) == (pipe.is_fifo(), _names(tmp_path))


@pytest.mark.parametrize("name", ["null", "stdout", "nothing"])
def test_nothing_in_dev_is_replaced(name: str) -> None:
    with pytest.raises(OSError, match="a device, a pipe or a socket is never replaced"):
        check_replaceable(Path("/dev") / name)


def test_a_file_keeps_its_permissions(old: Path, tmp_path: Path) -> None:
    old.chmod(0o600)
    write_text(old, "new")
    (tmp_path / "staged").write_text("newer")
    written = old.stat().st_mode & 0o777
    replace(tmp_path / "staged", old)

    assert (0o600, 0o600) == (written, old.stat().st_mode & 0o777)
    assert "newer" == old.read_text()


def test_new_folder_takes_the_place_of_the_old_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for name in ("old", "new"):
        with replacing_folder(target) as staged:
            (staged / name).write_bytes(b"x")

    assert ["new"] == _names(target)
    assert ["folder"] == _names(tmp_path)


def test_folder_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with replacing_folder(target) as staged:
        (staged / "old").write_bytes(b"x")

    with pytest.raises(ZeroDivisionError), replacing_folder(target) as staged:
        (staged / "new").write_bytes(b"x")
        raise ZeroDivisionError

    assert ["old"] == _names(target)
    assert ["folder"] == _names(tmp_path)
