"""Folders of timm and Hugging Face, and which format a path is taken for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ntksap_export.checkpoint import SparseCheckpoint, save_mask
from ntksap_export.checkpoint.formats import FORMATS, format_of, open_source, pieces, recognise
from ntksap_export.errors import CheckpointError
from ntksap_export.masks import Mask

from ..checkpoint_cases import checkpoint_of_net
from .memory_source import everything, source_of

STATE = {"a.weight": torch.ones(2, 3), "b.weight": torch.zeros(3)}
EXPECTED = everything(source_of(a__weight=STATE["a.weight"], b__weight=STATE["b.weight"]))


def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"architecture": "resnet18"}')
    return tmp_path / "model"


def with_safetensors(path: Path) -> None:
    save_file(STATE, path / "model.safetensors")


def with_bin(path: Path) -> None:
    torch.save(STATE, path / "pytorch_model.bin")


def sharded_bin(path: Path) -> None:
    weight_map = {}
    for number, (name, value) in enumerate(STATE.items()):
        torch.save({name: value}, path / f"pytorch_model-{number}.bin")
        weight_map[name] = f"pytorch_model-{number}.bin"
    (path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))


def sharded_safetensors(path: Path) -> None:
    weight_map = {}
    for number, (name, value) in enumerate(STATE.items()):
        save_file({name: value}, path / f"model-{number}.safetensors")
        weight_map[name] = f"model-{number}.safetensors"
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize("fill", [with_safetensors, with_bin, sharded_bin, sharded_safetensors])
def test_weights_under_the_usual_names(tmp_path: Path, fill: object) -> None:
    path = folder(tmp_path)
    fill(path)  # type: ignore[operator]

    with open_source(path) as source:
        assert EXPECTED == everything(source)
    assert "folder" == recognise(path)
    assert path / "config.json" not in pieces(path, "folder")


def test_an_index_of_bins_alone(tmp_path: Path) -> None:
    sharded_bin(tmp_path)

    with open_source(tmp_path / "pytorch_model.bin.index.json") as source:
        assert EXPECTED == everything(source)


def test_an_index_of_bins_that_lies(tmp_path: Path) -> None:
    sharded_bin(tmp_path)
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"c": "pytorch_model-0.bin"}}))

    said = r"puts 'c' into 'pytorch_model-0\.bin', which has not got it"
    with pytest.raises(CheckpointError, match=said), open_source(index):
        pass


def test_a_run_directory_and_its_file_are_ours(tmp_path: Path) -> None:
    path = folder(tmp_path)
    checkpoint = checkpoint_of_net()
    checkpoint.save(path / "model.safetensors")

    assert ("ntksap", "ntksap") == (recognise(path), recognise(path / "model.safetensors"))
    with open_source(path) as source:
        assert everything(checkpoint) == everything(source)


def test_our_shards(tmp_path: Path) -> None:
    checkpoint = checkpoint_of_net()
    checkpoint.save(tmp_path / "model.safetensors", max_shard_bytes=500)
    index = tmp_path / "model.safetensors.index.json"

    assert "ntksap" == recognise(index)
    assert len(pieces(index, "ntksap")) > 2
    with open_source(index) as source:
        assert everything(checkpoint) == everything(source)


def test_a_mask_file_is_no_checkpoint(tmp_path: Path) -> None:
    save_mask(tmp_path / "mask.safetensors", Mask({"a": torch.ones(2, dtype=torch.bool)}), {})

    said = r"mask\.safetensors: a mask file, not a checkpoint"
    with pytest.raises(CheckpointError, match=said), open_source(tmp_path / "mask.safetensors"):
        pass


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"<html>", "an HTML or XML page"),
        (b"version https://git-lfs.github.com/spec/v1", "a git-lfs pointer"),
        (b'{"a": 1}', "JSON, and no index of shards"),
        (b'{"weight_map": ', "is not JSON"),
        (b"something else", "of no known format"),
    ],
)
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "file").write_bytes(content)

    with pytest.raises(CheckpointError, match=f"file: {said}"):
        recognise(tmp_path / "file")


def test_no_path_makes_a_format_stumble(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_bytes(b"\xff\xfe{")
    SparseCheckpoint({}, Mask({}), None).save(tmp_path / "none.safetensors")
    odd = ["nothing", "loop", "folder", "folder/config.json", "none.safetensors/inside"]

    for path in (tmp_path / name for name in odd):
        assert [False] * len(FORMATS) == [known.matches(path) for known in FORMATS.values()]
        assert format_of(path) is None
