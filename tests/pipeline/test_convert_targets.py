"""Conversions and the places they write to: what must not be replaced is not, and nothing stale stays beside."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ntksap_export.errors import ConfigError

from .convert_cases import one, rich_file


def test_a_pipe_is_no_target(tmp_path: Path) -> None:
    source, pipe = rich_file(tmp_path), tmp_path / "out.pt"
    os.mkfifo(pipe)
    link = tmp_path / "link.pt"
    link.symlink_to(pipe)

    for target in (pipe, link):
        with pytest.raises(ConfigError, match=r"a device, a pipe or a socket is never replaced; name another TARGET"):
            one(source, target)

    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert link.is_symlink()


def test_links_in_a_circle(tmp_path: Path) -> None:
    source, circle = rich_file(tmp_path), tmp_path / "circle.pt"
    circle.symlink_to(circle)

    missing = one(circle, tmp_path / "out.safetensors")
    written = one(source, circle)

    assert ("failed", 4, f"{circle}: no such file or directory") == (missing.status, missing.exit_code, missing.error)
    assert ("converted", True, False) == (written.status, circle.is_file(), circle.is_symlink())


def test_an_index_is_no_target(tmp_path: Path) -> None:
    source = rich_file(tmp_path)

    with pytest.raises(ConfigError, match=r"is the name of an index; name the checkpoint, 'out\.safetensors'"):
        one(source, tmp_path / "out.safetensors.index.json", to="ntksap")
