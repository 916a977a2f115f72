"""Checkpoints in several files, and one tensor of a file at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ntksap_export.checkpoint import SparseCheckpoint, open_checkpoint, shards
from ntksap_export.errors import CheckpointError, ConfigError
from ntksap_export.masks import Mask

from .checkpoint_cases import PROVENANCE, bits, checkpoint_of_net, content, document_of, split

INDEX = "model.safetensors.index.json"


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    checkpoint_of_net().save(tmp_path / "model.safetensors", max_shard_bytes=400)
    return tmp_path


@pytest.mark.parametrize("ask", ["model.safetensors", INDEX])
def test_several_files_are_one_checkpoint(sharded: Path, ask: str) -> None:
    loaded = SparseCheckpoint.load(sharded / ask)

    assert content(checkpoint_of_net()) == content(loaded)
    assert INDEX in names(sharded)
    assert len(names(sharded)) > 2
    assert "model.safetensors" not in names(sharded)


def test_index_is_what_transformers_expects(sharded: Path) -> None:
    index = json.loads((sharded / INDEX).read_text())
    found = {
        part: path.name
        for path in sharded.glob("model-*.safetensors")
        for part in split(path.read_bytes())[0]
        if part != "__metadata__"
    }
    stored = sum(len(split(path.read_bytes())[1]) for path in sharded.glob("model-*.safetensors"))

    assert {"metadata": {"total_size": stored}, "weight_map": found} == index


def test_equal_content_gives_equal_files(sharded: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    again = tmp_path_factory.mktemp("again")
    SparseCheckpoint.load(sharded / INDEX).save(again / "model.safetensors", max_shard_bytes=400)

    assert names(sharded) == names(again)
    assert all((sharded / name).read_bytes() == (again / name).read_bytes() for name in names(again))


def test_new_checkpoint_takes_the_place_of_the_old_one(sharded: Path) -> None:
    other = SparseCheckpoint({"a": torch.ones(8), "b": torch.ones(8)}, Mask({}), None)

    other.save(sharded / "model.safetensors", max_shard_bytes=32)
    assert len(names(sharded)) == 3
    assert content(other) == content(SparseCheckpoint.load(sharded / "model.safetensors"))

    other.save(sharded / "model.safetensors")
    assert ["model.safetensors"] == names(sharded)

    other.save(sharded / "model.safetensors", max_shard_bytes=32)
    assert "model.safetensors" not in names(sharded)


def test_death_before_the_index_leaves_the_old_checkpoint(sharded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = SparseCheckpoint({"a": torch.ones(8), "b": torch.ones(8)}, Mask({}), None)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shards.atomic, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        other.save(sharded / "model.safetensors", max_shard_bytes=32)

    assert content(checkpoint_of_net()) == content(SparseCheckpoint.load(sharded / INDEX))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index["weight_map"].popitem(), "weight_map is not what the files hold"),
        (lambda index: index["weight_map"].update({"more": "model-1.safetensors"}), "no such file"),
        (lambda index: index["weight_map"].update({"norm.bias": "../model.safetensors"}), "must lie beside the index"),
        (lambda index: index["weight_map"].update({"norm.bias": ".."}), "must lie beside the index"),
        (lambda index: index["weight_map"].update({"norm.bias": 3}), "must have a weight_map"),
        (lambda index: index.pop("weight_map"), "must have a weight_map"),
    ],
)
def test_index_that_lies_is_refused(sharded: Path, change: Any, message: str) -> None:
    index = json.loads((sharded / INDEX).read_text())
    change(index)
    (sharded / INDEX).write_text(json.dumps(index))

    with pytest.raises(CheckpointError, match=message):
        SparseCheckpoint.load(sharded / INDEX)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000])
def test_index_that_is_none_is_refused(sharded: Path, text: str) -> None:
    (sharded / INDEX).write_text(text)

    with pytest.raises(CheckpointError, match=INDEX):
        SparseCheckpoint.load(sharded / INDEX)


def test_one_file_of_several_is_no_checkpoint(sharded: Path) -> None:
    second = next(path for path in sharded.glob("model-*") if "shard" in document_of(split(path.read_bytes())[0]))

    with pytest.raises(CheckpointError, match=r"one of several files .* open its \.safetensors\.index\.json"):
        SparseCheckpoint.load(second)


def test_files_of_different_runs_are_refused(sharded: Path) -> None:
    first = min(sharded.glob("model-*"))
    first.write_bytes(first.read_bytes().replace(rb"\"seed\":7", rb"\"seed\":8"))

    with pytest.raises(CheckpointError, match="different runs"):
        SparseCheckpoint.load(sharded / INDEX)


def test_a_shard_takes_at_least_a_byte(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 1 byte; got 0"):
        checkpoint_of_net().save(tmp_path / "model.safetensors", max_shard_bytes=0)


def test_unknown_encoding_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"auto or one of dense, .*; got 'zip'"):
        checkpoint_of_net().save(tmp_path / "model.safetensors", "zip")
    assert [] == names(tmp_path)


def test_tensors_are_read_one_by_one(tmp_path: Path) -> None:
    checkpoint = checkpoint_of_net()
    checkpoint.save(tmp_path / "model.safetensors")

    with open_checkpoint(tmp_path / "model.safetensors") as reader:
        decoded = reader.read("stem.weight")
        assert checkpoint.names() == reader.names()
        assert checkpoint.provenance == reader.provenance
        with pytest.raises(CheckpointError, match="no tensor 'gone'"):
            reader.read("gone")

    assert bits(checkpoint.tensors["stem.weight"]) == bits(decoded.tensor)
    assert decoded.kept is not None
    assert bits(checkpoint.mask["stem.weight"]) == bits(decoded.kept)


def test_zeros_of_what_is_not_pruned_take_no_space_and_make_no_mask(tmp_path: Path) -> None:
    weight = torch.zeros(64, 64)
    weight[3, :7] = torch.tensor([1.0, -0.0, float("nan"), float("inf"), 1e-40, 2.0, -3.0])
    SparseCheckpoint({"a": weight}, Mask({}), PROVENANCE).save(tmp_path / "model.safetensors")

    loaded = SparseCheckpoint.load(tmp_path / "model.safetensors")

    assert bits(weight) == bits(loaded.tensors["a"])
    assert len(loaded.mask) == 0
    assert (tmp_path / "model.safetensors").stat().st_size < 1_500
