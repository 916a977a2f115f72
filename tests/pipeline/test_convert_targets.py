"""Conversions and the places they write to: what must not be replaced is not, and nothing stale stays beside."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ntksap_export.checkpoint import write_checkpoint
from ntksap_export.errors import CheckpointError, ConfigError
from ntksap_export.pipeline.convert.options import SUFFIXES
from tests.checkpoint.formats.memory_source import source_of

from .convert_cases import content, one, rich_file


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


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.is_file())


def test_shards_and_back(tmp_path: Path) -> None:
    source, out = rich_file(tmp_path), tmp_path / "out"
    index = out / "x.safetensors.index.json"

    single = one(source, out / "x.safetensors")
    many = one(source, out / "x.safetensors", max_shard_bytes=150)
    names, found = _names(out), content(index)
    again = one(source, out / "x.safetensors", max_shard_bytes=150)
    fewer = one(source, out / "x.safetensors", max_shard_bytes=400)
    fewer_names = _names(out)
    back = one(source, out / "x.safetensors")

    assert ["converted", "converted", "unchanged", "converted", "converted"] == [
        outcome.status for outcome in (single, many, again, fewer, back)
    ]
    assert [index, index] == [many.job.output, again.job.output]
    assert (many.sha256, many.bytes_out) == (again.sha256, again.bytes_out)
    assert content(source) == found
    assert ("x.safetensors.index.json", len(names) - 1) == (names[-1], int(names[0].split("-")[4].split(".")[0]))
    assert len(fewer_names) < len(names) and not set(fewer_names[:-1]) & set(names)
    assert ["x.safetensors"] == _names(out)
    assert content(source) == content(out / "x.safetensors")


def test_a_plain_file_in_the_place_of_shards(tmp_path: Path) -> None:
    source, out = rich_file(tmp_path), tmp_path / "out"
    one(source, out / "x.safetensors", max_shard_bytes=150)

    one(source, out / "x.safetensors", to="safetensors")

    assert ["x.safetensors"] == _names(out)


def test_shards_do_not_become_what_stands_in_their_place(tmp_path: Path) -> None:
    many = one(rich_file(tmp_path), tmp_path / "out" / "x.safetensors", max_shard_bytes=150)
    names = _names(tmp_path / "out")

    with pytest.raises(ConfigError, match=r"x\.safetensors' is a source too and would be overwritten"):
        one(many.job.output, tmp_path / "out" / "x.safetensors")

    assert names == _names(tmp_path / "out")


def test_an_index_of_another_program_stays_alone(tmp_path: Path) -> None:
    source, index = rich_file(tmp_path), tmp_path / "model.safetensors.index.json"
    shard = tmp_path / "model-00001-of-00001.safetensors"
    shard.write_bytes(source.read_bytes())
    index.write_text(json.dumps({"weight_map": {"fc.weight": shard.name}}))

    with pytest.raises(CheckpointError, match=r"would stand beside .model\.safetensors.; name another TARGET"):
        one(source, tmp_path / "model.safetensors")

    assert (True, False) == (shard.exists(), (tmp_path / "model.safetensors").exists())


@pytest.mark.parametrize("to", ["safetensors", "torch", "torch-prune"])
def test_names_that_really_begin_like_a_wrapper(tmp_path: Path, to: str) -> None:
    kept = torch.tensor([[True, False]])
    values = {"module.a.weight": torch.tensor([[2.0, 0.0]]), "module.b": torch.ones(3)}
    source, out = tmp_path / "source.safetensors", tmp_path / f"out{SUFFIXES[to]}"
    write_checkpoint(source, source_of({"module.a.weight": kept}, **values), None)

    outcome = one(source, out, to=to)

    stored = load_file(out) if to == "safetensors" else torch.load(out, weights_only=True)
    names = ["module.a.weight_mask", "module.a.weight_orig"] if to == "torch-prune" else ["module.a.weight"]
    assert ("converted", [*names, "module.b"]) == (outcome.status, sorted(stored))
    assert f"{out}: all names begin with 'module.', which ntksap takes for a wrapper's" in outcome.notes[-1]
    assert ["a.weight", "b"] == sorted(content(out))


@pytest.mark.parametrize("to", ["ntksap", "safetensors", "torch", "torch-prune", "npz"])
def test_who_loses_masks_is_told(tmp_path: Path, to: str) -> None:
    out = tmp_path / f"out{SUFFIXES[to]}"

    told = one(rich_file(tmp_path), out, to=to).to_json()["notes"]

    lost = to in ("safetensors", "torch")
    assert ([f"{out}: {to} has no place for masks; only their zeros are left"] if lost else []) == told
