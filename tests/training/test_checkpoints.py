"""The files an interrupted training goes on from: whole, few, found again, and never somebody else's."""

from __future__ import annotations

import json
import os
import pickle
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ntksap_export.errors import RunDirectoryError
from ntksap_export.training import Checkpoints, forget_states
from ntksap_export.training.checkpoints import last_saved, newest_state, read_state, save_state


@pytest.fixture
def where(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "training", "a")


def saved(where: Checkpoints, *places: tuple[int, int, float | None]) -> Checkpoints:
    """States at these epochs and steps with these accuracies; each holds its place."""
    for epoch, step, accuracy in places:
        save_state(where, {"place": torch.tensor([epoch, step])}, epoch, step, accuracy)
    return where


def files(where: Checkpoints) -> list[str]:
    return sorted(path.name for path in where.directory.iterdir())


def newest(where: Checkpoints, said: list[str] | None = None) -> list[int]:
    """The place that the newest sound state holds."""
    state = newest_state(where, (said if said is not None else []).append)
    assert state is not None
    place: list[int] = read_state(where, state)["place"].tolist()
    return place


def test_there_is_none_before_the_first(where: Checkpoints) -> None:
    assert newest_state(where, print) is None
    assert last_saved(where) is None
    assert not where.directory.exists()


def test_the_newest_is_found(where: Checkpoints) -> None:
    saved(where, (1, 0, 0.5), (1, 70, None))

    assert [1, 70] == newest(where)
    assert "epoch 1 and 70 steps" == str(last_saved(where))


def test_the_last_ones_and_the_best_stay(where: Checkpoints) -> None:
    saved(where, (1, 0, 0.5), (2, 0, 0.9), (3, 0, 0.7), (3, 4, None), (4, 0, 0.9))

    assert ["best.pt", "epoch-0003-step-000004.pt", "epoch-0004.pt", "index.json"] == files(where)
    best = torch.load(where.directory / "best.pt", weights_only=True)
    assert [2, 0] == best["place"].tolist()


@pytest.mark.parametrize("keep", [1, 3])
def test_as_many_stay_as_wanted(where: Checkpoints, keep: int) -> None:
    where = saved(replace(where, keep=keep), *((epoch, 0, None) for epoch in range(1, 6)))

    assert [f"epoch-{epoch:04d}.pt" for epoch in range(6 - keep, 6)] == files(where)[:-1]


def test_saving_again_at_the_same_place_replaces(where: Checkpoints) -> None:
    saved(where, (1, 0, 0.1), (2, 0, 0.2), (2, 0, 0.3))

    assert ["best.pt", "epoch-0001.pt", "epoch-0002.pt", "index.json"] == files(where)
    assert [2, 0] == newest(where)


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "empty"])
def test_a_damaged_one_is_said_and_the_one_before_used(where: Checkpoints, damage: str) -> None:
    saved(where, (1, 0, 0.5), (2, 0, 0.4))
    path = where.directory / "epoch-0002.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    changed = {"cut": content[:-1], "flipped": content, "empty": b"", "gone": None}[damage]
    path.unlink()
    if changed is not None:
        path.write_bytes(changed)
    said: list[str] = []

    assert [1, 0] == newest(where, said)
    assert [f"warning: '{path}' is missing or damaged; the state before it is used"] == said


def test_the_best_is_the_last_resort(where: Checkpoints) -> None:
    saved(where, (1, 0, 0.5), (2, 0, 0.4), (3, 0, 0.4))
    for path in where.directory.glob("epoch-*"):
        path.unlink()

    assert [1, 0] == newest(where)


def test_when_all_are_damaged_it_says_what_to_delete(where: Checkpoints) -> None:
    saved(where, (1, 0, 0.5))
    for path in where.directory.glob("*.pt"):
        path.write_bytes(b"PK")

    with pytest.raises(RunDirectoryError, match="as it was written; delete that directory to train from the start"):
        newest(where)


def test_states_of_other_settings_are_refused(where: Checkpoints) -> None:
    saved(where, (1, 0, 0.5))

    with pytest.raises(RunDirectoryError, match="belongs to a training under another mask; delete it"):
        newest(replace(where, fingerprint="b"))


@pytest.mark.parametrize(
    "index",
    ["", "{", "[]", "{}", '{"newest": [], "best": null}', '{"newest": 3, "best": null, "fingerprint": "a"}'],
)
def test_a_broken_index_is_refused(where: Checkpoints, index: str) -> None:
    saved(where, (1, 0, 0.5))
    (where.directory / "index.json").write_text(index)

    with pytest.raises(RunDirectoryError, match=r"index\.json' cannot be read"):
        newest(where)


def test_an_index_that_leads_elsewhere_is_refused(where: Checkpoints) -> None:
    saved(where, (1, 0, 0.5))
    path = where.directory / "index.json"
    index: dict[str, Any] = json.loads(path.read_text())
    index["newest"][0]["name"] = "../other.pt"
    path.write_text(json.dumps(index))

    with pytest.raises(RunDirectoryError, match=r"index\.json' cannot be read"):
        newest(where)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("seed", range(20))
def test_garbage_that_the_index_vouches_for_is_refused(where: Checkpoints, seed: int) -> None:
    saved(where, (1, 0, 0.5))
    chance = random.Random(seed)
    prefix = b"\x80\x02" if seed % 2 else b""
    (where.directory / "epoch-0001.pt").write_bytes(prefix + chance.randbytes(chance.randrange(1, 200)))
    state = last_saved(where)
    assert state is not None

    with pytest.raises(RunDirectoryError, match="cannot be read"):
        read_state(where, state)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_no_code_is_run_from_a_state(where: Checkpoints) -> None:
    owned = where.directory.with_name("owned")

    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return (owned.touch, ())

    saved(where, (1, 0, 0.5))
    (where.directory / "epoch-0001.pt").write_bytes(pickle.dumps(Payload()))
    state = last_saved(where)
    assert state is not None

    with pytest.raises(RunDirectoryError):
        read_state(where, state)
    assert not owned.exists()


def test_a_failed_write_leaves_what_was_there(where: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(where, (1, 0, 0.5))
    before = {path.name: path.read_bytes() for path in where.directory.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)

    with pytest.raises(OSError, match="No space left"):
        saved(where, (2, 0, 0.9))
    assert before == {path.name: path.read_bytes() for path in where.directory.iterdir()}


def test_a_write_that_torch_reports_as_its_own_error_is_one_of_the_disk(
    where: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", fail)

    with pytest.raises(OSError, match="torch could not write it") as caught:
        saved(where, (1, 0, 0.5))
    assert str(where.directory / "epoch-0001.pt") == caught.value.filename


def test_what_a_killed_process_left_half_written_goes(where: Checkpoints) -> None:
    saved(where, (1, 0, 0.5))
    (where.directory / ".epoch-0002.pt.123.part").write_bytes(b"half")

    assert [1, 0] == newest(where)
    assert ["best.pt", "epoch-0001.pt", "index.json"] == files(where)


def test_a_file_system_without_links_gets_a_copy(where: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    saved(where, (1, 0, 0.5), (2, 0, 0.1), (3, 0, 0.1))

    assert [1, 0] == torch.load(where.directory / "best.pt", weights_only=True)["place"].tolist()


def test_forgetting_all_or_all_but_the_best(where: Checkpoints) -> None:
    saved(where, (1, 0, 0.5), (2, 0, 0.4))

    forget_states(where.directory, but_best=True)
    assert ["best.pt"] == files(where)

    forget_states(where.directory)
    assert not where.directory.exists()
    forget_states(where.directory)  # nothing there: nothing happens
