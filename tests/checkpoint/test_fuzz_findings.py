"""What `benchmarks/fuzz_checkpoint.py` found, and what stands beside it: each file is refused as any damaged one."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import pytest

from ntksap_export.checkpoint import SparseCheckpoint
from ntksap_export.errors import CheckpointError

from .checkpoint_cases import PROVENANCE, address_space, forged, joined
from .test_damaged_files import refusal, written


def test_two_tensors_of_one_name_are_refused_with_the_file(tmp_path: Path) -> None:
    part = ("U8", [1], b"\1")
    document = {"schema": 2, "tensors": {}, "provenance": PROVENANCE.to_json()}
    raw = forged({"fc.weight": part, "fc.weight.packed": part}, document)

    said = refusal(written(tmp_path / "model.safetensors", raw))

    assert said.startswith("two tensors would be stored under the name 'fc.weight.packed'")


@pytest.mark.parametrize("name", ["\ud800", "a\nb", "a\0b", "\x1b[2J", "a" * 256, "\u00e9" * 128])
def test_index_that_names_a_file_no_system_takes(tmp_path: Path, name: str) -> None:
    index = json.dumps({"weight_map": {"fc.weight": name}}).encode()

    said = refusal(written(tmp_path / "model.safetensors.index.json", index))

    assert said.startswith("names the file ")
    assert said.endswith("; files must lie beside the index")


def test_control_codes_of_the_header_do_not_reach_the_terminal(tmp_path: Path) -> None:
    raw = joined({"a": {"dtype": "\x7f\x1b[2J", "shape": [1], "data_offsets": [0, 1]}}, b"1")

    said = refusal(written(tmp_path / "model.safetensors", raw))

    assert said.isprintable()
    assert "unknown variant `\\x7f\\x1b[2J`" in said


def test_path_with_a_null_byte(tmp_path: Path) -> None:
    assert refusal(tmp_path / "a\0b").startswith("no such name is possible")


@pytest.mark.skipif(sys.platform != "linux", reason="limits address space as Linux does")
@pytest.mark.parametrize(
    ("shape", "raw", "kept"),
    [([2**30], b"", 0), ([2**20, 2**9], struct.pack("<B", 0), 1)],  # of bools; of values
)
def test_memory_that_this_process_may_not_take(tmp_path: Path, shape: list[int], raw: bytes, kept: int) -> None:
    streams = [raw, *[b"\1" * kept] * 2]
    entry = {"encoding": "gap", "mask": "stored", "shape": shape, "dtype": "F16", "kept": kept, "raw": len(raw)}
    document = {
        "schema": 2,
        "tensors": {"a.weight": {**entry, "bytes": [len(stream) for stream in streams]}},
        "provenance": None,
    }
    whole = b"".join(streams)
    path = written(tmp_path / "model.safetensors", forged({"a.weight.packed": ("U8", [len(whole)], whole)}, document))
    with address_space(3 * 2**28):
        said = refusal(path)

    elements = 2**30 if kept == 0 else 2**29
    assert said == f"tensor 'a.weight' of {elements:,} elements does not fit into free memory; is the file damaged?"


@pytest.mark.skipif(sys.platform != "linux", reason="limits address space as Linux does")
def test_memory_that_only_the_check_of_what_was_read_asks_for(tmp_path: Path) -> None:
    entry = {"encoding": "gap", "mask": "stored", "shape": [2**28], "dtype": "I8", "kept": 0, "raw": 0, "bytes": [0, 0]}
    document = {"schema": 2, "tensors": {"a.weight": entry}, "provenance": None}
    path = written(tmp_path / "model.safetensors", forged({"a.weight.packed": ("U8", [0], b"")}, document))

    with address_space(9 * 2**26), pytest.raises(CheckpointError) as caught:  # values and mask take 8 * 2**26
        SparseCheckpoint.load(path)

    assert f"{path}: it does not fit into free memory; is the file damaged?" == str(caught.value)
