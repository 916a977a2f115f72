"""A training that was stopped goes on as if it had not been, or says why it cannot."""

from __future__ import annotations

import pickle
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ntksap_export.data import Loader
from ntksap_export.errors import RunDirectoryError
from ntksap_export.masks import Mask
from ntksap_export.training import EpochRow, TrainLog, load_state, save_state, train

from ..support.nets import TinyNet, random_mask, tiny_net
from .cases import config, digits, net

CONFIG = config(epochs=3, lr=0.2)


class Stopped(Exception):
    """What stands for a killed process."""


def untimed(log: TrainLog) -> list[EpochRow]:
    return [replace(row, seconds=0.0, images_per_s=0.0) for row in log.history]


def interrupted_after(epoch: int, state: Path, mask: Mask) -> None:
    def stop(row: EpochRow) -> None:
        if row.epoch == epoch:
            raise Stopped

    with pytest.raises(Stopped):
        train(net(), mask, digits(), CONFIG, state_path=state, fingerprint="a", on_epoch=stop)


@pytest.mark.parametrize("epoch", [1, 2])
def test_resumed_training_is_bit_equal_to_an_uninterrupted_one(tmp_path: Path, epoch: int) -> None:
    state = tmp_path / "state.pt"
    whole, resumed = net(), net()
    mask = random_mask(whole)
    expected = train(whole, mask, digits(), CONFIG)
    interrupted_after(epoch, state, mask)
    torch.manual_seed(random.randrange(2**31))
    with torch.no_grad():
        resumed.conv1.weight.fill_(9.0)  # what the model holds does not matter: the state does
    rows: list[EpochRow] = []

    log = train(resumed, mask, digits(), CONFIG, state_path=state, fingerprint="a", on_epoch=rows.append)

    assert untimed(expected) == untimed(log)
    assert [1, 2, 3] == [row.epoch for row in rows]
    theirs, ours = whole.state_dict(), resumed.state_dict()
    assert [] == [name for name in theirs if not torch.equal(theirs[name], ours[name])]
    assert all(torch.equal(mask[name], resumed.get_parameter(name) != 0) for name in mask)


def test_every_epoch_has_its_own_order_also_after_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs: list[int] = []
    choose = Loader.set_epoch

    def spy(loader: Loader, epoch: int) -> None:
        epochs.append(epoch)
        choose(loader, epoch)

    monkeypatch.setattr(Loader, "set_epoch", spy)
    state = tmp_path / "state.pt"
    mask = random_mask(net())

    interrupted_after(2, state, mask)
    train(net(), mask, digits(), CONFIG, state_path=state, fingerprint="a")

    assert [1, 2, 3] == epochs


def test_momentum_is_part_of_the_state(tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    mask = random_mask(net())
    interrupted_after(2, state, mask)
    forgetful = torch.load(state, weights_only=True)
    assert any(bool(part["momentum_buffer"].any()) for part in forgetful["optimizer"]["state"].values())
    whole, resumed = net(), net()
    train(whole, mask, digits(), CONFIG)
    for part in forgetful["optimizer"]["state"].values():
        part["momentum_buffer"].zero_()
    torch.save(forgetful, state)

    train(resumed, mask, digits(), CONFIG, state_path=state, fingerprint="a")

    assert not torch.equal(whole.conv1.weight, resumed.conv1.weight)


def test_a_finished_training_is_not_trained_further(tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    model, again = net(), net()
    mask = random_mask(model)
    first = train(model, mask, digits(), CONFIG, state_path=state, fingerprint="a")
    stored = state.read_bytes()

    log = train(again, mask, digits(), CONFIG, state_path=state, fingerprint="a")

    assert first.history == log.history
    assert stored == state.read_bytes()
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in again.state_dict().items())
    assert not again.training


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The state of an unused model after a first epoch, fingerprint "a"."""
    model, optimizer = with_optimizer()
    path = tmp_path / "state.pt"
    save_state(path, model, optimizer, [EpochRow(1, 1.0, 0.5, 1.0, 0.5, 0.1, 1.0, 1.0)], "a")
    return path


def with_optimizer() -> tuple[TinyNet, torch.optim.Optimizer]:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return model, optimizer


def test_there_is_no_state_before_the_first_epoch(tmp_path: Path) -> None:
    assert [] == load_state(tmp_path / "state.pt", *with_optimizer(), "a")


def test_nothing_is_left_beside_the_state(saved: Path) -> None:
    assert [saved] == list(saved.parent.iterdir())


def test_a_state_of_other_settings_is_refused_and_touches_nothing(saved: Path) -> None:
    model, optimizer = with_optimizer()
    with torch.no_grad():
        model.fc.bias.fill_(7.0)

    with pytest.raises(RunDirectoryError, match="belongs to a training with other settings; pass --overwrite"):
        load_state(saved, model, optimizer, "b")
    assert [7.0] * 10 == model.fc.bias.tolist()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_state_is_refused(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])

    with pytest.raises(RunDirectoryError, match=r"cannot be read \(.*\); delete it to train from the start"):
        load_state(saved, *with_optimizer(), "a")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("seed", range(40))
def test_garbage_is_refused(saved: Path, seed: int) -> None:
    chance = random.Random(seed)
    opcodes = b"\x80\x02}]().NKXqR0ahbcsutpIFUVJGMT"
    letters = opcodes if seed % 2 else bytes(range(256))
    prefix = b"\x80\x02" if seed % 4 == 1 else b""
    saved.write_bytes(prefix + bytes(chance.choice(letters) for _ in range(chance.randrange(1, 200))))

    with pytest.raises(RunDirectoryError, match="delete it to train from the start"):
        load_state(saved, *with_optimizer(), "a")


@pytest.mark.parametrize(
    "content",
    [
        [1, 2, 3],
        {},
        {"fingerprint": "a"},
        {"fingerprint": "a", "history": [{"epoch": 1}], "model": {}, "optimizer": {}},
        {"fingerprint": "a", "history": [], "model": {}, "optimizer": {}},
        {"fingerprint": "a", "history": [], "model": None, "optimizer": {}},
        {"fingerprint": "a", "history": None, "model": {}, "optimizer": {}},
        {"fingerprint": "a", "history": [3], "model": {}, "optimizer": {}},
        {"fingerprint": "a", "history": [], "model": "ours", "optimizer": None},
        {"fingerprint": "a", "history": [], "model": "ours", "optimizer": {"state": {}, "param_groups": []}},
        {
            "fingerprint": "a",
            "history": [],
            "model": "ours",
            "optimizer": {"state": 1, "param_groups": [{"params": 3}]},
        },
    ],
    ids=str,
)
def test_a_readable_file_of_another_form_is_refused(saved: Path, content: object) -> None:
    model, optimizer = with_optimizer()
    if isinstance(content, dict) and content.get("model") == "ours":
        content = {**content, "model": model.state_dict()}
    torch.save(content, saved)

    with pytest.raises(RunDirectoryError, match="delete it to train from the start"):
        load_state(saved, model, optimizer, "a")


def test_a_state_of_another_network_is_refused(saved: Path) -> None:
    other = tiny_net(classes=3)

    with pytest.raises(RunDirectoryError, match=r"cannot be read \(RuntimeError\)"):
        load_state(saved, other, torch.optim.SGD(other.parameters(), lr=0.1), "a")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_no_code_is_run_from_a_state(saved: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return (saved.with_name("owned").touch, ())

    saved.write_bytes(pickle.dumps(Payload()))

    with pytest.raises(RunDirectoryError):
        load_state(saved, *with_optimizer(), "a")
    assert not saved.with_name("owned").exists()
