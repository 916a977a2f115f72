"""TensorBoard's files: a scalar per epoch, once, whatever was killed and begun anew; absent, it is said at once."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ntksap_export.config import make_config
from ntksap_export.pipeline import run_stage
from ntksap_export.pipeline.tensorboard import SCALARS, TensorBoard
from ntksap_export.training import EpochRow
from tests.conftest import SMALL_FLAGS

ROW = EpochRow(
    epoch=1,
    train_loss=2.5,
    train_accuracy=0.25,
    val_loss=2.25,
    val_accuracy=0.5,
    lr=0.125,
    seconds=3.0,
    images_per_s=1024.0,
)
installed = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="the extra `tensorboard` is not installed"
)


def scalars(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """Per tag what TensorBoard shows: steps and values."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events: Any = EventAccumulator(str(directory)).Reload()
    return {tag: [(item.step, item.value) for item in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def tell(directory: Path, rows: Iterable[EpochRow]) -> None:
    with closing(TensorBoard(directory)) as board:
        for row in rows:
            board.write(row)


def rows(count: int) -> list[EpochRow]:
    return [replace(ROW, epoch=epoch, val_accuracy=epoch / 8) for epoch in range(1, count + 1)]


@installed
def test_every_field_has_its_tag(tmp_path: Path) -> None:
    tell(tmp_path, [ROW])

    assert {tag: [(1, getattr(ROW, field))] for tag, field in SCALARS.items()} == scalars(tmp_path)


@installed
def test_an_epoch_is_on_the_disk_before_the_next(tmp_path: Path) -> None:
    with closing(TensorBoard(tmp_path)) as board:
        board.write(ROW)

        assert [(1, 0.5)] == scalars(tmp_path)["val/accuracy"]


@installed
def test_a_resumed_training_tells_no_epoch_twice(tmp_path: Path) -> None:
    tell(tmp_path, rows(2))
    tell(tmp_path, rows(4))  # a resumed training tells the epochs before again

    assert [(epoch, epoch / 8) for epoch in range(1, 5)] == scalars(tmp_path)["val/accuracy"]


@installed
def test_a_training_that_overwrites_a_longer_one_leaves_nothing_of_it(tmp_path: Path) -> None:
    tell(tmp_path, rows(4))
    tell(tmp_path, [ROW])

    assert [(1, 0.5)] == scalars(tmp_path)["val/accuracy"]


def test_without_a_directory_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(TensorBoard(None)) as board:
        board.write(ROW)

    assert [] == list(tmp_path.iterdir())


@installed
def test_a_trained_run_has_its_epochs(finished_run: Path) -> None:
    before = run_stage("train", finished_run, {"epochs": 1}, overwrite=True)
    without = (before / "tensorboard").exists()
    run_stage("train", finished_run, {"epochs": 2, "tensorboard": True}, overwrite=True)

    assert not without
    assert [1, 2] == [step for step, _ in scalars(finished_run / "tensorboard")["train/loss"]]


def test_asking_for_it_is_the_same_run() -> None:
    plain, other = make_config({"model": "mlp7"}), make_config({"model": "mlp7", "tensorboard": True})

    assert plain != other
    assert plain.keys_of("train") == other.keys_of("train")


def test_without_the_package_it_is_refused_before_anything_is_written(
    ntksap: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)

    code, _, err = ntksap("prune-train-export", "resnet20", *SMALL_FLAGS, "--tensorboard", "--out", tmp_path / "out")

    assert 7 == code
    assert "pip install 'ntksap-export[tensorboard]'" in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
