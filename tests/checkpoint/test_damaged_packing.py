"""Packed tensors that lie: one CheckpointError, before memory is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from ntksap_export.checkpoint import SparseCheckpoint
from ntksap_export.errors import CheckpointError

from .checkpoint_cases import forged

BASE = {"shape": [2, 8], "mask": "stored", "dtype": "U8", "kept": 3}
FRAME = zstandard.ZstdCompressor(write_content_size=True).compress(bytes(1000))


def said(path: Path, stored: bytes, **entry: Any) -> str:
    document = {"schema": 2, "tensors": {"a": {**BASE, **entry}}, "provenance": None}
    path.write_bytes(forged({"a.packed": ("U8", [len(stored)], stored)}, document))
    with pytest.raises(CheckpointError) as caught:
        SparseCheckpoint.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_it_is_sound_before_it_is_changed(tmp_path: Path) -> None:
    entry = {**BASE, "encoding": "gap", "raw": 3, "bytes": [3, 3]}
    path = tmp_path / "model.safetensors"
    document = {"schema": 2, "tensors": {"a": entry}, "provenance": None}
    path.write_bytes(forged({"a.packed": ("U8", [6], bytes([1, 0, 9, 7, 8, 9]))}, document))

    loaded = SparseCheckpoint.load(path)

    assert [[0, 7, 8, 0, 0, 0, 0, 0], [0, 0, 0, 0, 9, 0, 0, 0]] == loaded.tensors["a"].tolist()


@pytest.mark.parametrize(
    ("raw", "entry", "message"),
    [
        (bytes([1, 0, 13, 7, 8, 9]), {"raw": 3, "bytes": [3, 3]}, "gaps run over the tensor's end"),
        (bytes([1, 0, 7, 8, 9]), {"raw": 2, "bytes": [2, 3]}, "hold 2 weights, its metadata says 3"),
        (bytes([1, 0, 255, 7, 8, 9]), {"raw": 3, "bytes": [3, 3]}, "hold 2 weights"),
        (bytes([1, 0, 9, 7, 8]), {"raw": 3, "bytes": [3, 2]}, "no sound zstandard frame"),
        (bytes([1, 0, 9, 7, 8, 9, 9]), {"raw": 3, "bytes": [3, 4]}, "takes 4 bytes for 3"),
        (bytes([1, 0, 9, 7, 8, 9]), {"raw": 3, "bytes": [3, 2]}, "must be uint8 (5,); got uint8 (6,)"),
        (bytes([1, 0, 9, 7, 8, 9]), {"raw": 3, "bytes": [3, 1, 2]}, "must have 1 byte planes; got 2"),
        (bytes(6), {"raw": 2**40, "bytes": [3, 3]}, "take at most 3 bytes; got 1099511627776"),
        (bytes(6), {"raw": 3, "bytes": [3, 3], "kept": 17}, "keeps 17 of 16 weights"),
        (bytes(6), {"raw": 3, "bytes": [3, 3], "dtype": "BOOL"}, "dtype 'BOOL', which is not packed"),
        (bytes(6), {"raw": 3, "bytes": [3, 3], "dtype": "X"}, "dtype 'X', which is not packed"),
        (bytes(6), {"raw": 3, "bytes": [3, 3], "mask": "bitmask"}, "must be one of none, full, stored"),
        (bytes(6), {"raw": -3, "bytes": [3, 3]}, "must have dtype, kept, raw and bytes"),
        (bytes(6), {"raw": 3, "bytes": [True, 3]}, "must have dtype, kept, raw and bytes"),
        (bytes(6), {"raw": 3, "bytes": "33"}, "must have dtype, kept, raw and bytes"),
        (bytes(6), {"raw": 3, "bytes": [3, 3], "group": [2]}, "must have dtype, kept, raw and bytes"),
        (FRAME + bytes(3), {"raw": 15, "bytes": [len(FRAME), 3], "kept": 15}, "takes"),
        (b"", {"raw": 0, "bytes": [0, 0], "kept": 0, "shape": [2**20, 2**20]}, "this machine has"),
        (bytes([1, 0, 9, 7, 8, 9]), {"raw": 3, "bytes": [3, 3], "mask": "full"}, "keeps 3 weights"),
    ],
)
def test_gap(tmp_path: Path, raw: bytes, entry: dict[str, Any], message: str) -> None:
    assert message in said(tmp_path / "model.safetensors", raw, **{"encoding": "gap", **entry})


@pytest.mark.parametrize(
    ("raw", "entry", "message"),
    [
        (bytes([7, 0, 1, 2, 3, 0]), {"raw": 3, "bytes": [3, 3]}, "take at most 2 bytes; got 3"),
        (bytes([7, 1, 2, 3]), {"raw": 1, "bytes": [1, 3]}, "does not have 16 bits"),
        (bytes([7, 1, 1, 2, 3]), {"raw": 2, "bytes": [2, 3]}, "keeps 4 weights, its metadata says 3"),
        (bytes([7, 128, 1, 2, 3]), {"raw": 2, "bytes": [2, 3], "shape": [2, 7]}, "does not have 14 bits"),
    ],
)
def test_bitmask(tmp_path: Path, raw: bytes, entry: dict[str, Any], message: str) -> None:
    assert message in said(tmp_path / "model.safetensors", raw, **{"encoding": "bitmask-zstd", **entry})


@pytest.mark.parametrize(
    ("raw", "entry", "message"),
    [
        (bytes([0, 0, *range(8)]), {}, "its group is missing"),
        (bytes([0, 0, *range(8)]), {"group": [4, 4]}, "its group must be n:m"),
        (bytes([0, 0, *range(8)]), {"group": [2, 5]}, "its group must be n:m"),
        (bytes([0, 0, *range(8)]), {"group": [8, 16]}, "its group must be n:m"),
        (bytes([0, 0, *range(8)]), {"group": [1, 4]}, "positions of 'a' take at most 1 bytes; got 2"),
        (bytes([0, 0, *range(8)]), {"group": [2, 4], "shape": [16]}, "groups of 2:4 contradict its shape"),
        (bytes([216, 0, *range(8)]), {"group": [2, 4]}, "choices beyond the 6 of 2:4"),
        (bytes([0, 36, *range(8)]), {"group": [2, 4]}, "choices beyond the 6 of 2:4"),
    ],
)
def test_n_of_m(tmp_path: Path, raw: bytes, entry: dict[str, Any], message: str) -> None:
    given = {"encoding": "n:m", "kept": 8, "raw": 2, "bytes": [2, 8], **entry}

    assert message in said(tmp_path / "model.safetensors", raw, **given)


def frame_of(size: int) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=True).compress(bytes(size))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (frame_of(999), "must expand to 1000 bytes; its frame says 999"),
        (frame_of(2**24), "must expand to 1000 bytes; its frame says 16777216"),
        (zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1000)), "must expand to 1000 bytes"),
        (frame_of(1000)[:-1], "no sound zstandard frame"),
        (frame_of(1000) + b"\0", "no sound zstandard frame"),
        (frame_of(500) + frame_of(500), "must expand to 1000 bytes"),
        (b"\0" * 30, "no sound zstandard frame"),
    ],
)
def test_frames(tmp_path: Path, frame: bytes, message: str) -> None:
    entry = {"encoding": "planes", "shape": [1000], "mask": "full", "kept": 1000, "raw": 0, "bytes": [0, len(frame)]}

    assert message in said(tmp_path / "model.safetensors", frame, **entry)


def test_group_of_sixteen_takes_two_to_a_byte(tmp_path: Path) -> None:
    entry = {**BASE, "encoding": "n:m", "group": [1, 16], "shape": [1, 48], "kept": 3, "raw": 2, "bytes": [2, 3]}
    path = tmp_path / "model.safetensors"
    document = {"schema": 2, "tensors": {"a": entry}, "provenance": None}
    path.write_bytes(forged({"a.packed": ("U8", [5], bytes([0x52, 0x0F, 7, 8, 9]))}, document))

    loaded = SparseCheckpoint.load(path)

    assert [2, 16 + 5, 32 + 15] == np.flatnonzero(loaded.tensors["a"].numpy()).tolist()
