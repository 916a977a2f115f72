"""A training that was stopped, anywhere, goes on as if it had not been."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ntksap_export.data import Loader
from ntksap_export.errors import Preempted, RunDirectoryError
from ntksap_export.training import Checkpoints, EpochRow, TrainConfig, TrainLog, evaluate, train

from ..support.nets import TinyNet, random_mask, tiny_net
from .cases import config, digits

STEPS = 4  # of an epoch
KINDS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "adamw": {"optimizer": "adamw", "lr": 0.01, "decay_norms": False},
    "averaged": {"ema": 0.9},
    "mixed": {"mixup": 0.2, "cutmix": 1.0},
    "micro-batches": {"accumulate": 3, "clip_norm": 0.1},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
}


def net() -> TinyNet:
    """Its dropout draws from torch's own random state."""
    return tiny_net(seed=1, classes=10, dropout=0.3)


def settings(kind: str) -> TrainConfig:
    return config(**{"epochs": 3, "lr": 0.2, **KINDS[kind]})


def untimed(log: TrainLog) -> list[EpochRow]:
    return [replace(row, seconds=0.0, images_per_s=0.0) for row in log.history]


def differing(first: torch.nn.Module, second: torch.nn.Module) -> list[str]:
    theirs, ours = first.state_dict(), second.state_dict()
    return [name for name in theirs if not torch.equal(theirs[name], ours[name])]


class After:
    """Says stop after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0


def stopped_after(steps: int, where: Checkpoints, kind: str = "sgd") -> None:
    model = net()
    with pytest.raises(Preempted, match=r"stopped by SIGTERM, the state after epoch .* is saved; the same command"):
        train(model, random_mask(model), digits(), settings(kind), checkpoints=where, stop=After(steps))


# After whole epochs the guard asks once more; 5 is the end of epoch 1, and 2, 7 and 13 lie within epochs.
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [2, 5, 7])
def test_resumed_training_is_bit_equal_to_an_uninterrupted_one(tmp_path: Path, kind: str, steps: int) -> None:
    where = Checkpoints(tmp_path / "states")
    whole, resumed = net(), net()
    mask = random_mask(whole)
    expected = train(whole, mask, digits(), settings(kind))
    stopped_after(steps, where, kind)
    torch.manual_seed(random.randrange(2**31))
    with torch.no_grad():
        resumed.conv1.weight.fill_(9.0)  # what the model holds does not matter: the state does
    rows: list[EpochRow] = []

    log = train(resumed, mask, digits(), settings(kind), checkpoints=where, on_epoch=rows.append)

    assert untimed(expected) == untimed(log)
    assert [1, 2, 3] == [row.epoch for row in rows]
    assert [] == differing(whole, resumed)
    assert all(torch.equal(mask[name], resumed.get_parameter(name) != 0) for name in mask)


def test_stopped_again_and_again(tmp_path: Path) -> None:
    where = Checkpoints(tmp_path / "states")
    whole, resumed = net(), net()
    mask = random_mask(whole)
    expected = train(whole, mask, digits(), settings("sgd"))
    for steps in (1, 2, 1, 3):
        stopped_after(steps, where)

    log = train(resumed, mask, digits(), settings("sgd"), checkpoints=where)

    assert untimed(expected) == untimed(log)
    assert [] == differing(whole, resumed)


def test_a_damaged_newest_state_costs_only_the_way_since_the_one_before(tmp_path: Path) -> None:
    where = Checkpoints(tmp_path / "states")
    whole, resumed = net(), net()
    mask = random_mask(whole)
    train(whole, mask, digits(), settings("sgd"))
    stopped_after(7, where)
    path = where.directory / "epoch-0001-step-000002.pt"
    path.write_bytes(path.read_bytes()[:1000])

    train(resumed, mask, digits(), settings("sgd"), checkpoints=where)

    assert [] == differing(whole, resumed)


def test_the_clock_saves_within_an_epoch(tmp_path: Path) -> None:
    where = Checkpoints(tmp_path / "states", keep=99, minutes=1e-9)
    model = net()

    train(model, random_mask(model), digits(), config(epochs=1), checkpoints=where)

    names = sorted(path.name for path in where.directory.glob("epoch-*"))
    assert [*(f"epoch-0000-step-{step:06d}.pt" for step in range(1, STEPS)), "epoch-0001.pt"] == names


def test_without_minutes_passing_only_epochs_are_saved(tmp_path: Path) -> None:
    where = Checkpoints(tmp_path / "states", keep=99)
    model = net()

    train(model, random_mask(model), digits(), config(epochs=2), checkpoints=where)

    assert ["epoch-0001.pt", "epoch-0002.pt"] == sorted(path.name for path in where.directory.glob("epoch-*"))


def test_the_best_state_has_the_weights_of_the_best_epoch(tmp_path: Path) -> None:
    where = Checkpoints(tmp_path / "states")
    model = net()
    mask = random_mask(model)
    log = train(model, mask, digits(), config(epochs=4, lr=0.5, schedule="constant"), checkpoints=where)
    again = net()
    train(again, mask, digits(), replace(config(epochs=4, lr=0.5, schedule="constant"), epochs=log.best.epoch))

    best = torch.load(where.directory / "best.pt", weights_only=True)["model"]

    assert [] == [name for name, value in again.state_dict().items() if not torch.equal(value, best[name])]


def test_a_state_shows_others_the_averaged_weights_that_were_judged(tmp_path: Path) -> None:
    where = Checkpoints(tmp_path / "states")
    model, read = net(), net()
    settings_of_average = config(epochs=1, ema=0.5)

    log = train(model, random_mask(model), digits(), settings_of_average, checkpoints=where)

    read.load_state_dict(torch.load(where.directory / "best.pt", weights_only=True)["model"])
    assert [] == differing(model, read)
    assert (log.final.val_loss, log.final.val_accuracy) == evaluate(read, digits().val)


def test_data_that_changed_since_are_refused(tmp_path: Path) -> None:
    where = Checkpoints(tmp_path / "states")
    stopped_after(2, where)

    with pytest.raises(RunDirectoryError, match="the data changed since this training was begun: 4 steps an epoch"):
        train(net(), random_mask(net()), digits(100), settings("sgd"), checkpoints=where)


def test_every_epoch_has_its_own_order_also_after_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs: list[int] = []
    choose = Loader.set_epoch

    def spy(loader: Loader, epoch: int) -> None:
        epochs.append(epoch)
        choose(loader, epoch)

    monkeypatch.setattr(Loader, "set_epoch", spy)
    where = Checkpoints(tmp_path / "states")
    model = net()

    stopped_after(STEPS + 2, where)
    train(model, random_mask(model), digits(), settings("sgd"), checkpoints=where)

    assert [1, 2, 2, 3] == epochs


def test_a_finished_training_is_not_trained_further(tmp_path: Path) -> None:
    where = Checkpoints(tmp_path / "states")
    model, again = net(), net()
    mask = random_mask(model)
    first = train(model, mask, digits(), settings("sgd"), checkpoints=where)
    stored = {path.name: path.read_bytes() for path in where.directory.iterdir()}

    log = train(again, mask, digits(), settings("sgd"), checkpoints=where)

    assert first.history == log.history
    assert stored == {path.name: path.read_bytes() for path in where.directory.iterdir()}
    assert [] == differing(model, again)
    assert not again.training


@pytest.mark.parametrize("part", ["model", "optimizer", "scaler", "history", "step", "steps", "sums", "random"])
def test_a_state_that_lacks_a_part_is_refused(tmp_path: Path, part: str) -> None:
    where = Checkpoints(tmp_path / "states")
    stopped_after(7, where)
    _rewrite(where, lambda content: content.pop(part))

    with pytest.raises(RunDirectoryError, match="to train from the start"):
        train(net(), random_mask(net()), digits(), settings("sgd"), checkpoints=where)


def test_a_state_of_another_network_is_refused(tmp_path: Path) -> None:
    where = Checkpoints(tmp_path / "states")
    stopped_after(7, where)
    other = TinyNet(classes=10, affine=False)

    with pytest.raises(RunDirectoryError, match="does not fit this training"):
        train(other, random_mask(other), digits(), settings("sgd"), checkpoints=where)


def test_torchs_random_state_is_left_as_it_was() -> None:
    model = net()
    torch.manual_seed(3)
    before = torch.get_rng_state()

    train(model, random_mask(model), digits(), config(epochs=1))

    assert torch.equal(before, torch.get_rng_state())


def test_a_finished_step_is_finished_before_the_stop_and_nothing_is_saved_without_a_place() -> None:
    model = net()

    with pytest.raises(Preempted, match="nothing was saved"):
        train(model, random_mask(model), digits(), config(), stop=After(2))


def _rewrite(where: Checkpoints, change: Any) -> None:
    """Change the newest state, and what the index says of it."""
    import hashlib
    import json

    index = json.loads((where.directory / "index.json").read_text())
    entry = index["newest"][-1]
    path = where.directory / entry["name"]
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    entry["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (where.directory / "index.json").write_text(json.dumps(index))
