"""Files that are not what they should be: one sentence with the file's name, and nothing else happens."""

from __future__ import annotations

import os
import pickle
import struct
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from safetensors.torch import save_file

from ntksap_export.checkpoint import SparseCheckpoint, describe
from ntksap_export.errors import CheckpointError

from .checkpoint_cases import (
    PROVENANCE,
    address_space,
    checkpoint_of_net,
    content,
    document_of,
    forged,
    joined,
    split,
    tensor_of,
    with_document,
)

SOUND = checkpoint_of_net().to_bytes("bitmask")


def refusal(path: Path) -> str:
    """What load says, after checking that describe says the same and that it is one line about this file."""
    with pytest.raises(CheckpointError) as loading:
        SparseCheckpoint.load(path)
    with pytest.raises(CheckpointError) as describing:
        describe(path)
    said = str(loading.value)
    assert said == str(describing.value)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said
    assert len(said) < len(str(path)) + 500
    return said.removeprefix(f"{path}: ")


def written(path: Path, raw: bytes) -> Path:
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "the file is empty"),
        (b"short", "truncated or damaged"),
        (SOUND[:100], "truncated or damaged"),
        (SOUND[:-1], "truncated or damaged"),
        (SOUND + b"\0", "truncated or damaged"),
        (b"PK\x03\x04" + b"\0" * 60, "a zip archive, as torch.save writes: these are never unpickled"),
        (pickle.dumps({"state": 1}), "a pickle: these are never unpickled"),
        (b"\x80", "truncated or damaged"),
        (b"\n<!DOCTYPE html><html></html>", "an HTML or XML page: was the download refused?"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (struct.pack("<Q", 2**63) + b"{}", "truncated or damaged"),
        (struct.pack("<Q", 2) + b"[]", "truncated or damaged"),
        (joined({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}, b"1234"), "damaged"),
        (
            joined({"a": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}}, b"1234"),
            "damaged",
        ),
        (joined({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, b"1234"), "damaged"),
        (joined({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"1234"), "damaged"),
    ],
)
def test_foreign_and_damaged_files(tmp_path: Path, raw: bytes, message: str) -> None:
    assert message in refusal(written(tmp_path / "model.safetensors", raw))


def test_dense_safetensors_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a.weight": torch.ones(2), "b": torch.ones(1)}, path, metadata={"format": "pt"})

    expected = (
        "not an ntksap checkpoint; dense safetensors with 2 tensors and no 'ntksap' metadata; "
        "read it with safetensors.torch.load_file"
    )
    assert expected == refusal(path)


def test_missing_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone.safetensors") == "no such file or directory"


def test_directory_and_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    assert refusal(tmp_path) == "is a directory; name the .safetensors file in it"
    assert refusal(tmp_path / "pipe") == "is not a regular file"


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "locked", SOUND)

    def denied(path: Path, mode: str) -> NoReturn:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)

    assert refusal(tmp_path / "locked") == "permission denied"


def test_torch_save_is_not_unpickled(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "model.pt")

    assert "never unpickled" in refusal(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"schema":1,"x":NaN}', "NaN is not JSON"),
        ('{"schema":1,"x":1e999}', "is not JSON"),
        ("[]", "must be a JSON object"),
        ("[" * 800 + "]" * 800, "must be a JSON object"),
        ("{}", "schema must be a number from 1 up; got None"),
        ('{"schema":true}', "schema must be a number from 1 up; got True"),
        ('{"schema":0}', "schema must be a number from 1 up; got 0"),
        ('{"schema":3}', "newer ntksap-export (schema 3, this one reads up to 2); upgrade ntksap-export"),
        ('{"schema":1}', "must have schema, tensors and provenance; got ['schema']"),
        ('{"schema":1,"tensors":[],"provenance":{}}', "must have schema, tensors and provenance"),
        ('{"schema":1,"tensors":{},"provenance":{},"more":1}', "must have schema, tensors and provenance"),
    ],
)
def test_metadata_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(written(tmp_path / "model.safetensors", with_document(SOUND, text)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"encoding": "csr"},
            "unknown encoding 'csr' (known: dense, bitmask, planes, bitmask-zstd, n:m, gap); upgrade",
        ),
        ({"encoding": ["dense"]}, "must be words"),
        ({"encoding": "dense"}, "'classifier.weight' is missing"),
        ({"encoding": "gap"}, "'classifier.weight.packed' is missing"),
        ({"mask": "full"}, "must be one of bitmask; got 'full'"),
        ({"mask": 1}, "must be words"),
        ({"more": 1}, "must have encoding, shape and mask"),
        ({"shape": "big"}, "shape must be a list of sizes"),
        ({"shape": [10.0, 16]}, "shape must be a list of sizes"),
        ({"shape": [10, -16]}, "shape must be a list of sizes"),
        ({"shape": [2**63, 1]}, "shape must be a list of sizes"),
        ({"shape": [2**30, 2**30]}, "larger than any file"),
        ({"shape": [0, 2**40, 2**40]}, "larger than any file"),
        ({"shape": [1] * 65}, "larger than any file"),
        (
            {"shape": [2**20, 2**20]},
            "'classifier.bitmask' must be uint8 (1048576, 131072); got uint8 (10, 2)",
        ),
        ({"shape": [10, 15]}, "'classifier.shape' contradicts the metadata's shape (10, 15)"),
        ({"shape": [160]}, "'classifier.bitmask' must be uint8 (1, 20)"),
    ],
)
def test_entry_that_contradicts_the_file(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    document = document_of(split(SOUND)[0])
    document["tensors"]["classifier.weight"].update(change)

    found = refusal(written(tmp_path / "model.safetensors", with_document(SOUND, document)))

    assert message in found


def test_entry_of_another_type(tmp_path: Path) -> None:
    document = document_of(split(SOUND)[0])
    document["tensors"]["classifier.weight"] = "dense"

    assert "must have encoding, shape and mask" in refusal(
        written(tmp_path / "model.safetensors", with_document(SOUND, document))
    )


def parts_of_one() -> dict[str, tuple[str, list[int], bytes]]:
    return {
        "fc.shape": ("I64", [2], struct.pack("<2q", 2, 11)),
        "fc.row_offsets": ("I64", [2], struct.pack("<2q", 0, 2)),
        "fc.compressed": ("F32", [6], struct.pack("<6f", 1, 9, 2, 3, 5, 7)),
        "fc.bitmask": ("U8", [2, 2], bytes([1, 2, 134, 4])),
    }


def document_of_one(**entry: Any) -> dict[str, Any]:
    return {
        "schema": 1,
        "tensors": {"fc.weight": {"encoding": "bitmask", "shape": [2, 11], "mask": "bitmask", **entry}},
        "provenance": PROVENANCE.to_json(),
    }


def test_forged_file_is_sound_before_it_is_changed(tmp_path: Path) -> None:
    values = [[1, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0], [0, 2, 3, 0, 0, 0, 0, 5, 0, 0, 7]]
    expected = tensor_of(values, (torch.tensor(values) != 0).tolist())
    path = written(tmp_path / "model.safetensors", forged(parts_of_one(), document_of_one()))

    assert content(expected) == content(SparseCheckpoint.load(path))


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        (
            "shape",
            ("I64", [2], struct.pack("<2q", 11, 2)),
            "'fc.shape' contradicts the metadata's shape (2, 11)",
        ),
        ("shape", ("I64", [2], struct.pack("<2q", -2, -11)), "'fc.shape' contradicts"),
        ("shape", ("I32", [2], struct.pack("<2i", 2, 11)), "'fc.shape' must be int64 (2,); got int32 (2,)"),
        ("shape", None, "'fc.shape' is missing"),
        ("compressed", ("F32", [5], b"\1" * 20), "'fc.compressed' must be float32 (6,); got float32 (5,)"),
        ("compressed", ("F32", [7], b"\1" * 28), "'fc.compressed' must be float32 (6,); got float32 (7,)"),
        (
            "compressed",
            ("F32", [6, 1], b"\1" * 24),
            "'fc.compressed' must be float32 (6,); got float32 (6, 1)",
        ),
        ("compressed", ("BOOL", [6], b"\1\0\1\0\1\2"), "bytes other than 0 and 1"),
        ("compressed", ("C64", [6], b"\1" * 48), "dtype C64, which is not read"),
        ("compressed", ("F4", [6], b"\1" * 3), "dtype F4, which is not read"),
        ("compressed", None, "'fc.compressed' is missing"),
        ("bitmask", ("U8", [2, 2], bytes([1, 2, 134, 5])), "must be float32 (7,); got float32 (6,)"),
        ("bitmask", ("U8", [2, 2], bytes([1, 8, 134, 4])), "bits set beyond column 11"),
        ("bitmask", ("U8", [2, 2], bytes([1, 0, 135, 4])), "'fc.row_offsets' contradicts the bitmask"),
        ("bitmask", ("U8", [4], bytes([1, 2, 134, 4])), "'fc.bitmask' must be uint8 (2, 2); got uint8 (4,)"),
        (
            "bitmask",
            ("I8", [2, 2], bytes([1, 2, 134, 4])),
            "'fc.bitmask' must be uint8 (2, 2); got int8 (2, 2)",
        ),
        ("bitmask", None, "'fc.bitmask' is missing"),
        ("row_offsets", ("I64", [2], struct.pack("<2q", 0, 3)), "'fc.row_offsets' contradicts the bitmask"),
        (
            "row_offsets",
            ("I64", [1], struct.pack("<q", 0)),
            "'fc.row_offsets' must be int64 (2,); got int64 (1,)",
        ),
        ("row_offsets", None, "'fc.row_offsets' is missing"),
        ("extra", ("U8", [1], b"\0"), "'fc.extra' is not listed in the metadata"),
        ("extra", ("U8", [0, 2**60], b""), "shape must be a list of sizes"),
    ],
)
def test_parts_that_contradict_each_other(tmp_path: Path, part: str, value: Any, message: str) -> None:
    parts = {**parts_of_one(), f"fc.{part}": value}
    raw = forged({name: found for name, found in parts.items() if found is not None}, document_of_one())

    assert message in refusal(written(tmp_path / "model.safetensors", raw))


def test_misaligned_tensor_is_read_or_refused(tmp_path: Path) -> None:
    parts = {"a.first": ("U8", [1], b"\1"), **parts_of_one()}
    document = document_of_one()
    document["tensors"]["a.first"] = {"encoding": "dense", "shape": [1], "mask": "none"}
    path = written(tmp_path / "model.safetensors", forged(parts, document))

    try:
        loaded = SparseCheckpoint.load(path)
    except CheckpointError:
        return
    assert loaded.tensors["fc.weight"][0, [0, 9]].tolist() == [1.0, 9.0]


def test_part_that_belongs_to_two_names_is_refused(tmp_path: Path) -> None:
    document = document_of_one()
    document["tensors"]["fc.shape"] = {"encoding": "dense", "shape": [2], "mask": "none"}

    assert "'fc.shape' belongs to two names" in refusal(
        written(tmp_path / "model.safetensors", forged(parts_of_one(), document))
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": "7"}, "provenance seed must be int; got str"),
        ({"seed": True}, "provenance seed must be int; got bool"),
        ({"config": []}, "provenance config must be dict; got list"),
        ({"versions": {"torch": 2}}, "provenance versions must be strings"),
        ({"when": "now"}, "provenance must have exactly the keys"),
    ],
)
def test_provenance_of_another_form(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    document = document_of_one()
    document["provenance"].update(change)

    assert message in refusal(written(tmp_path / "model.safetensors", forged(parts_of_one(), document)))


def test_message_stays_one_short_line(tmp_path: Path) -> None:
    document = document_of_one()
    document["tensors"]["fc\n\ud800" * 999] = {"encoding": "dense", "shape": [1], "mask": "none"}

    said = refusal(written(tmp_path / "model.safetensors", forged(parts_of_one(), document)))

    assert said.encode("ascii").decode().startswith("tensor 'fc\\n\\ud800fc")


def lying(shape: list[int]) -> bytes:
    document = document_of(split(SOUND)[0])
    document["tensors"]["classifier.weight"]["shape"] = shape
    return with_document(SOUND, document)


@pytest.mark.skipif(sys.platform != "linux", reason="limits address space as Linux does")
@pytest.mark.parametrize("shape", [[2**14, 2**20], [2**20, 2**20], [2**47, 2]])
def test_no_memory_is_asked_for_before_the_numbers_agree(tmp_path: Path, shape: list[int]) -> None:
    path = written(tmp_path / "model.safetensors", lying(shape))
    with address_space(2**28):
        said = refusal(path)

    assert "'classifier.bitmask' must be uint8" in said
