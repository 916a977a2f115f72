"""Conversions: nothing is lost on any way, changed is what was asked for, and outputs are whole or as before."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from ntksap_export.checkpoint import load_mask, save_mask
from ntksap_export.checkpoint.encodings import ENCODINGS, Decoded
from ntksap_export.checkpoint.formats import torch_file
from ntksap_export.errors import CheckpointError
from ntksap_export.masks import Mask
from ntksap_export.pipeline.convert import one as one_module
from ntksap_export.pipeline.convert.compare import check_same
from ntksap_export.pipeline.convert.kinds import TARGETS
from ntksap_export.pipeline.convert.options import SUFFIXES
from ntksap_export.pipeline.convert.record import record_path
from tests.checkpoint.checkpoint_cases import bits
from tests.checkpoint.formats.memory_source import MemorySource, everything, source_of

from .convert_cases import PROVENANCE, content, odd_floats, one, rich, rich_file, run, without_masks

PAIRS = list(itertools.product(TARGETS, TARGETS))


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_nothing_is_lost_on_any_way(tmp_path: Path, first: str, second: str) -> None:
    source = rich_file(tmp_path, narrow="npz" not in (first, second))
    expected = content(source)

    one(source, tmp_path / f"1{SUFFIXES[first]}", to=first)
    last = one(tmp_path / f"1{SUFFIXES[first]}", tmp_path / f"2{SUFFIXES[second]}", to=second)
    back = one(last.job.output, tmp_path / "back.safetensors", to="ntksap")

    assert ("converted", "converted", None) == (last.status, back.status, back.error)
    if not (TARGETS[first].keeps_masks and TARGETS[second].keeps_masks):
        expected = without_masks(expected)
    assert expected == content(back.job.output)


@pytest.mark.parametrize("encoding", ["auto", *ENCODINGS])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    source = rich_file(tmp_path, narrow=True)

    assert "converted" == one(source, tmp_path / "out.safetensors", encoding=encoding).status
    assert content(source) == content(tmp_path / "out.safetensors")


def test_provenance_stays_where_there_is_a_place_for_it(tmp_path: Path) -> None:
    source = rich_file(tmp_path)
    one(source, tmp_path / "folder", to="npz")
    one(tmp_path / "folder", tmp_path / "back.safetensors")

    assert source.read_bytes() == (tmp_path / "back.safetensors").read_bytes()


def test_a_checkpoint_of_torch_prune_under_wrappers(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    prune.random_unstructured(net[0], "weight", 0.5)
    state = {f"_orig_mod.module.{name}": value for name, value in net.state_dict().items()}
    torch.save({"model": state}, tmp_path / "net.pth")

    outcome = one(tmp_path / "net.pth", tmp_path / "net.safetensors")

    assert 0.5 == outcome.sparsity
    found = content(tmp_path / "net.safetensors")
    weight = torch.where(net[0].weight_mask.bool(), net[0].weight.detach(), 0.0)  # torch's product has -0.0 too
    assert (bits(weight), bits(net[0].weight_mask.bool())) == found["0.weight"]
    assert sorted(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).state_dict()) == sorted(found)


# what is changed on the way


def written(tmp_path: Path, source: MemorySource) -> Path:
    torch_file.write(tmp_path / "source.pt", source, None, masks=True)
    return tmp_path / "source.pt"


def test_dtype(tmp_path: Path) -> None:
    source = rich_file(tmp_path, narrow=True)

    one(source, tmp_path / "out.safetensors", dtype="bfloat16")

    expected = {}
    for name, value in rich(narrow=True).values.items():
        tensor = value.tensor.to(torch.bfloat16) if value.tensor.is_floating_point() else value.tensor
        expected[name] = (bits(tensor), None if value.kept is None else bits(value.kept))
    assert expected == content(tmp_path / "out.safetensors")


def test_a_value_that_underflows_stays_kept(tmp_path: Path) -> None:
    kept = torch.tensor([[True, False]])
    source = written(tmp_path, source_of({"a.weight": kept}, a__weight=torch.tensor([[1e-30, 0.0]])))

    one(source, tmp_path / "out.safetensors", dtype="float16")

    assert {"a.weight": (bits(torch.zeros(1, 2).half()), bits(kept))} == content(tmp_path / "out.safetensors")


def test_a_value_that_overflows_is_refused(tmp_path: Path) -> None:
    values = torch.tensor([1.0, 7e4, -7e4, float("inf"), float("nan")])

    outcome = one(written(tmp_path, source_of(a=values)), tmp_path / "out.safetensors", dtype="float16")

    assert ("failed", 4) == (outcome.status, outcome.exit_code)
    assert "2 values of 'a' overflow float16, the first is 70000; take --dtype bfloat16" in str(outcome.error)
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("threshold", [1e-9, 0.1, 0.25, 0.30000001, 7.0])
def test_threshold(tmp_path: Path, dtype: torch.dtype, threshold: float) -> None:
    values = torch.tensor([0.1, -0.1, 0.25, 0.3, -0.3, 0.0, -0.0, float("nan"), 400.0, 7.0]).to(dtype).reshape(2, 5)

    one(written(tmp_path, source_of(a=values, b=values[0])), tmp_path / "out.safetensors", threshold=threshold)

    kept = torch.tensor([[not abs(value) < threshold for value in row] for row in values.double().tolist()])
    expected = values.clone()
    expected.view(torch.uint8).view(10, -1)[~kept.reshape(-1)] = 0
    assert {"a": (bits(expected), bits(kept)), "b": (bits(values[0]), None)} == content(tmp_path / "out.safetensors")


def test_threshold_prunes_beside_the_mask_that_is_there(tmp_path: Path) -> None:
    kept = torch.tensor([[True, True, False, True]])
    values = torch.tensor([[0.5, 0.001, 0.0, float("inf")]])

    one(written(tmp_path, source_of({"a": kept}, a=values)), tmp_path / "out.safetensors", threshold=0.01)

    expected = (
        bits(torch.tensor([[0.5, 0.0, 0.0, float("inf")]])),
        bits(torch.tensor([[True, False, False, True]])),
    )
    assert {"a": expected} == content(tmp_path / "out.safetensors")


def masks_in(tmp_path: Path, how: str, kept: torch.Tensor) -> Path:
    if how == "mask file":
        save_mask(tmp_path / "mask.safetensors", Mask({"a.weight": kept}), {})
        return tmp_path / "mask.safetensors"
    torch_file.write(
        tmp_path / "other.pt", source_of({"a.weight": kept}, a__weight=kept.float(), b=torch.ones(1)), None, masks=True
    )
    return tmp_path / "other.pt"


@pytest.mark.parametrize("how", ["mask file", "checkpoint"])
def test_masks_of_another_file(tmp_path: Path, how: str) -> None:
    kept = torch.tensor([[True, True, True, True], [False, False, True, False]])
    mask = masks_in(tmp_path, how, kept)
    before = torch.tensor([[True, True, True, False], [True, True, True, True]])
    values = torch.where(before, odd_floats(), 0.0)
    source = written(tmp_path, source_of({"a.weight": before}, a__weight=values, b=torch.ones(1)))

    one(source, tmp_path / "out.safetensors", mask=mask)

    expected = values.clone()
    expected.view(torch.int32)[~kept] = 0
    found = content(tmp_path / "out.safetensors")
    assert {"a.weight": (bits(expected), bits(kept)), "b": (bits(torch.ones(1)), None)} == found


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (source_of(b=torch.ones(2)), "--mask has 'a.weight', which the checkpoint has not"),
        (source_of(a__weight=torch.ones(2, 3)), "'a.weight' has shape (2, 3), in --mask (2, 4)"),
    ],
)
def test_masks_that_do_not_fit(tmp_path: Path, source: MemorySource, said: str) -> None:
    mask = masks_in(tmp_path, "mask file", torch.ones(2, 4, dtype=torch.bool))

    assert said in str(one(written(tmp_path, source), tmp_path / "out.safetensors", mask=mask).error)


def test_a_mask_file_without_masks(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "plain.pt")

    outcome = one(tmp_path / "plain.pt", tmp_path / "out.safetensors", mask=tmp_path / "plain.pt")

    assert "plain.pt' has no masks; zeros alone are none, see --threshold" in str(outcome.error)


def test_prefix(tmp_path: Path) -> None:
    source = written(tmp_path, source_of(net__a=torch.ones(1), net__b=torch.zeros(1)))

    one(source, tmp_path / "out.safetensors", prefix="net.")
    refused = one(source, tmp_path / "other.safetensors", prefix="net.a")

    assert {"a": (bits(torch.ones(1)), None), "b": (bits(torch.zeros(1)), None)} == content(
        tmp_path / "out.safetensors"
    )
    assert "'net.a' does not begin with 'net.a'" in str(refused.error)


# twice, and when it goes wrong


def states(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("to", TARGETS)
def test_a_second_run_does_nothing(tmp_path: Path, to: str) -> None:
    source = rich_file(tmp_path)
    first = one(source, tmp_path / f"out{SUFFIXES[to]}", to=to)
    before = states(tmp_path)

    second = one(source, tmp_path / f"out{SUFFIXES[to]}", to=to)

    assert ("converted", "unchanged") == (first.status, second.status)
    assert before == states(tmp_path)
    told = ("bytes_in", "bytes_out", "ratio", "sparsity", "sha256")
    assert [getattr(first, key) for key in told] == [getattr(second, key) for key in told]


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def damaged_output(out: Path) -> None:
    out.write_bytes(out.read_bytes()[:-1] + b"x")


def damaged_record(out: Path) -> None:
    record_path(out).write_text('{"source": ')


def foreign_record(out: Path) -> None:
    record_path(out).write_text('{"files": "abc", "source": [], "sparsity": "x"}')


def other_version(out: Path) -> None:
    record = json.loads(record_path(out).read_text())
    record_path(out).write_text(json.dumps({**record, "version": "0.0.0"}))


@pytest.mark.parametrize(
    "change",
    [damaged_output, damaged_record, foreign_record, other_version, Path.unlink, lambda o: record_path(o).unlink()],
)
def test_what_is_not_as_recorded_is_converted_again(tmp_path: Path, change: Any) -> None:
    source, out = rich_file(tmp_path), tmp_path / "out.pt"
    whole = one(source, out).sha256
    change(out)

    assert ("converted", whole) == ((again := one(source, out)).status, again.sha256)
    assert "unchanged" == one(source, out).status


def test_other_flags_or_another_source_convert_again(tmp_path: Path) -> None:
    source, out = rich_file(tmp_path), tmp_path / "out.safetensors"
    one(source, out, check=False)

    assert "converted" == one(source, out).status  # what was not checked is not taken for checked
    assert "unchanged" == one(source, out, check=False).status
    assert "converted" == one(source, out, encoding="bitmask").status
    torch.save({"a": torch.ones(3)}, tmp_path / "other.pt")
    assert "converted" == one(tmp_path / "other.pt", out).status


def test_the_digest_is_that_of_sha256sum(tmp_path: Path) -> None:
    outcome = one(rich_file(tmp_path), tmp_path / "out.pt")

    assert hashlib.sha256((tmp_path / "out.pt").read_bytes()).hexdigest() == outcome.sha256


def test_what_reads_back_otherwise_takes_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = rich_file(tmp_path), tmp_path / "out.pt"
    out.write_bytes(b"what was there")

    def forgetful(path: Path, source: Any, provenance: Any, options: Any) -> None:
        altered = {name: source.read(name) for name in source.names()}
        altered["odd.bias"] = Decoded(altered["odd.bias"].tensor.abs(), None)
        torch_file.write(path, MemorySource(altered), None)

    monkeypatch.setitem(TARGETS, "torch", dataclasses.replace(TARGETS["torch"], write=forgetful))
    outcome = one(source, out)

    assert ("failed", 4, b"what was there") == (outcome.status, outcome.exit_code, out.read_bytes())
    assert "'odd.bias' came back other than it was written as torch" in str(outcome.error)
    assert {"rich.safetensors", "out.pt"} == names_in(tmp_path)
    assert "converted" == one(source, out, check=False).status


def test_names_that_a_format_would_change() -> None:
    with pytest.raises(CheckpointError, match=r"has besides 'a'.*Choose another --to"):
        check_same(source_of(module__a=torch.ones(1)), source_of(a=torch.ones(1)), True, "torch")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = rich_file(tmp_path), tmp_path / "out.pt"
    out.write_bytes(b"what was there")

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(out))

    monkeypatch.setattr(one_module.atomic, "sync_tree", full)
    outcome = one(source, out)

    assert ("failed", 8, b"what was there") == (outcome.status, outcome.exit_code, out.read_bytes())
    assert "No space left on device; free space or choose another TARGET" in str(outcome.error)
    assert {"rich.safetensors", "out.pt"} == names_in(tmp_path)


def test_a_source_that_changes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = rich_file(tmp_path), tmp_path / "out.pt"
    write = TARGETS["torch"].write

    def slow(path: Path, *rest: Any) -> None:
        write(path, *rest)
        os.utime(source, (1, 1))

    monkeypatch.setitem(TARGETS, "torch", dataclasses.replace(TARGETS["torch"], write=slow))

    assert "rich.safetensors changed while it was read" in str(one(source, out).error)
    assert not out.exists()


def test_what_a_killed_process_left_goes(tmp_path: Path) -> None:
    source = rich_file(tmp_path)
    (tmp_path / ".out.pt.99999999.part").mkdir()
    (tmp_path / ".out.pt.mine.part").mkdir()
    (tmp_path / f".out.pt.{os.getppid()}.part").mkdir()

    one(source, tmp_path / "out.pt")

    left = {name for name in names_in(tmp_path) if name.endswith(".part")}
    assert {".out.pt.mine.part", f".out.pt.{os.getppid()}.part"} == left


def test_a_folder_is_replaced_whole_and_never_what_others_put_there(tmp_path: Path) -> None:
    source, out = rich_file(tmp_path), tmp_path / "out"
    one(source, out, to="npz")
    again = one(source, out, to="npz", threshold=0.5)
    one(source, tmp_path / "twin", to="npz", threshold=0.5)
    changed = content(out)
    (out / "notes.txt").write_text("mine")

    refused = one(source, out, to="npz")

    assert changed == content(tmp_path / "twin") != content(source)
    assert ("converted", "failed") == (again.status, refused.status)
    assert f"'{out}' holds 'notes.txt', which would be lost" in str(refused.error)
    assert "mine" == (out / "notes.txt").read_text()
    assert {".ntksap", "out", "twin", "rich.safetensors"} == names_in(tmp_path)


def test_an_output_that_is_a_link_becomes_a_file(tmp_path: Path) -> None:
    source = rich_file(tmp_path)
    (tmp_path / "precious.pt").write_bytes(b"mine")
    (tmp_path / "out.pt").symlink_to(tmp_path / "precious.pt")

    one(source, tmp_path / "out.pt")

    assert b"mine" == (tmp_path / "precious.pt").read_bytes()
    assert not (tmp_path / "out.pt").is_symlink()


def test_a_mask_of_a_run_fits_its_dense_weights(tmp_path: Path) -> None:
    source = rich_file(tmp_path)
    masks = {name: value.kept for name, value in rich().values.items() if value.kept is not None}
    save_mask(tmp_path / "mask.safetensors", Mask(masks), PROVENANCE.to_json())
    one(source, tmp_path / "dense.pt")

    one(tmp_path / "dense.pt", tmp_path / "again.safetensors", mask=tmp_path / "mask.safetensors")

    assert content(source) == content(tmp_path / "again.safetensors")
    assert load_mask(tmp_path / "mask.safetensors")[0].same_as(Mask(masks))


def test_a_damaged_file_among_many(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    rich_file(tmp_path / "in")
    (tmp_path / "in" / "broken.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    (tmp_path / "in" / "notes.txt").write_text("not a checkpoint, nor does it say so")
    save_mask(tmp_path / "in" / "mask.safetensors", Mask({"a": torch.ones(1, dtype=torch.bool)}), {})

    outcomes = run([tmp_path / "in"], tmp_path / "out")

    assert [("broken.safetensors", "failed"), ("rich.safetensors", "converted")] == [
        (outcome.job.source.name, outcome.status) for outcome in outcomes
    ]
    assert everything(rich())["tensors"] == content(tmp_path / "out" / "rich.safetensors")
