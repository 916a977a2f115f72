"""The weights along a training: kept once each, whether or not it was interrupted, and gone with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ntksap_export.checkpoint import Provenance, SparseCheckpoint
from ntksap_export.config import make_config
from ntksap_export.errors import ConfigError, Preempted
from ntksap_export.pipeline import run_road, snapshots, training
from ntksap_export.pipeline.snapshots import Snapshots, snapshot_file, snapshot_files
from ntksap_export.training.checkpoints import Saved

from ..conftest import Recorder, small_config
from ..support.nets import TinyNet, random_mask, tiny_net

PROVENANCE = Provenance("tiny", "random", 0)


def quick(**changes: object):  # type: ignore[no-untyped-def]
    return small_config(method="magnitude", sparsity=0.5, batch_size=512, image_size=8, epochs=3, **changes)


def test_a_run_keeps_the_weights_that_were_asked_for(tmp_path: Path) -> None:
    out = run_road(quick(snapshot_epochs=(0, 1, 3)), tmp_path / "run", stages=("prune", "train"))

    found = snapshot_files(out)
    assert [0, 1, 3] == list(found)
    last, end = SparseCheckpoint.load(found[3]), SparseCheckpoint.load(out / "model.safetensors")
    assert all(torch.equal(last.tensors[name], end.tensors[name]) for name in end.names())
    start, one = (SparseCheckpoint.load(found[epoch]) for epoch in (0, 1))
    assert not torch.equal(start.tensors["conv1.weight"], one.tensors["conv1.weight"])
    assert 0 == int(start.tensors["bn1.num_batches_tracked"])
    assert start.mask.same_as(end.mask)


def test_an_interrupted_training_neither_loses_nor_duplicates_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_road(quick(snapshot_epochs=(0, 1, 2, 3)), tmp_path / "whole", stages=("prune", "train"))
    kept = Snapshots.after

    def killed(self: Snapshots, epoch: int) -> None:
        if epoch == 2:
            raise Preempted("between the state and the snapshot")
        kept(self, epoch)

    monkeypatch.setattr(training.Snapshots, "after", killed)
    config = quick(snapshot_epochs=(0, 1, 2, 3))
    with pytest.raises(Preempted):
        run_road(config, tmp_path / "run", stages=("prune", "train"))
    assert [0, 1] == list(snapshot_files(tmp_path / "run"))
    monkeypatch.setattr(training.Snapshots, "after", kept)
    run_road(config, tmp_path / "run", stages=("prune", "train"))

    expected = [path.read_bytes() for path in snapshot_files(whole).values()]
    assert expected == [path.read_bytes() for path in snapshot_files(tmp_path / "run").values()]


def test_what_was_not_asked_for_in_time_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: Snapshots, epoch: int) -> None:
        if epoch == 2:
            raise Preempted("later")

    with monkeypatch.context() as patch:
        patch.setattr(training.Snapshots, "after", killed)
        with pytest.raises(Preempted):
            run_road(quick(), tmp_path / "run", stages=("prune", "train"))
    progress = Recorder()
    run_road(quick(snapshot_epochs=(0, 1, 2)), tmp_path / "run", stages=("prune", "train"), progress=progress)

    assert [0, 2] == list(snapshot_files(tmp_path / "run"))
    said = "no snapshot after epoch 1: it was not asked for when that epoch was trained"
    assert [said] == [line for line in progress.lines if line.startswith("no snapshot")]


def test_in_the_middle_of_an_epoch_the_one_before_is_gone(tmp_path: Path) -> None:
    model = tiny_net()
    saved = Saved("epoch-0002-step-000004.pt", "", 2, 4, None)
    made = Snapshots(tmp_path, (1, 2, 3), model, random_mask(model), PROVENANCE, saved)

    for epoch in (1, 2, 3):
        made.after(epoch)

    assert [1, 2] == made.missed()
    assert [3] == list(snapshot_files(tmp_path))


def test_a_new_training_forgets_those_of_the_one_before(tmp_path: Path) -> None:
    model = tiny_net()
    Snapshots(tmp_path, (0,), model, random_mask(model), PROVENANCE, None)
    other = TinyNet(classes=4)
    Snapshots(tmp_path, (), other, random_mask(other), PROVENANCE, None)

    assert {} == snapshot_files(tmp_path)


def test_another_mask_sets_them_aside(tmp_path: Path) -> None:
    out = run_road(quick(snapshot_epochs=(0,)), tmp_path / "run", stages=("prune", "train"))

    run_road(quick(seed=1), out, stages=("prune",), overwrite=True)

    assert {} == snapshot_files(out)
    assert (out / ".ntksap" / "stale" / "snapshots" / "epoch-000.safetensors").is_file()


def test_files_of_others_are_no_snapshots(tmp_path: Path) -> None:
    (tmp_path / snapshots.FOLDER).mkdir()
    for name in (
        "epoch-12.safetensors",
        "epoch-007.safetensors",
        "epoch-1000.safetensors",
        ".epoch-001.safetensors.9.part",
    ):
        (tmp_path / snapshots.FOLDER / name).touch()

    assert {7: snapshot_file(tmp_path, 7), 1000: snapshot_file(tmp_path, 1000)} == snapshot_files(tmp_path)


@pytest.mark.parametrize(("given", "until"), [((-1,), ""), ((0, 6), " to 5")])
def test_an_epoch_that_is_none_is_refused(given: tuple[int, ...], until: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config({"model": "resnet20", "snapshot_epochs": given, **({"epochs": 5} if until else {})})

    shown = ",".join(map(str, given))
    assert f"snapshot-epochs are epochs of the training, 0 (its start){until}; got {shown}" == str(caught.value)
