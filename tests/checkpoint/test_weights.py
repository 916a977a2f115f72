"""Weights to start from: what is read, what is refused, and that nothing of a file is ever run."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ntksap_export.checkpoint import (
    Provenance,
    SparseCheckpoint,
    load_weights_,
    read_weights,
    save_mask,
    weights_digest,
)
from ntksap_export.errors import CheckpointError

from ..support.nets import TinyNet, random_mask, tiny_net


class Malicious:
    """A pickle that would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
        return os.system, (f"touch '{self.target}'",)


def same(first: TinyNet, second: TinyNet) -> bool:
    theirs = second.state_dict()
    return all(torch.equal(tensor, theirs[key]) for key, tensor in first.state_dict().items() if tensor.dim())


def loaded(path: Path) -> TinyNet:
    model = tiny_net(seed=1)
    load_weights_(model, read_weights(path), path.name)
    return model


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model_state_dict": state, "optimizer": {"lr": 0.1}},
        lambda state: {"model": state, "args": "none"},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {"model": {f"module._orig_mod.{key}": value for key, value in state.items()}},
        lambda state: {f"_orig_mod.module.{key}": value for key, value in state.items()},
        lambda state: {key: value for key, value in state.items() if "num_batches_tracked" not in key},
    ],
)
def test_state_dicts_of_torch_save_are_read(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    expected = tiny_net(seed=0)
    torch.save(wrap(OrderedDict(expected.state_dict())), tmp_path / "weights.pt")

    assert same(expected, loaded(tmp_path / "weights.pt"))


def test_safetensors_are_read_whatever_they_are_called(tmp_path: Path) -> None:
    expected = tiny_net(seed=0)
    save_file(expected.state_dict(), tmp_path / "weights.pt")

    assert same(expected, loaded(tmp_path / "weights.pt"))


def test_a_checkpoint_of_ours_gives_its_weights_with_zeros(tmp_path: Path) -> None:
    model = tiny_net(seed=0)
    mask = random_mask(model)
    SparseCheckpoint.of(model, mask, Provenance("tiny", "none", 0, {}, {})).save(tmp_path / "model.safetensors")

    model_again = loaded(tmp_path / "model.safetensors")

    for name, kept in mask.items():
        assert torch.equal(model.get_parameter(name) * kept, model_again.get_parameter(name))
    assert torch.equal(model.fc.bias, model_again.fc.bias)


def test_half_precision_becomes_the_models(tmp_path: Path) -> None:
    state = tiny_net(seed=0).half().state_dict()
    torch.save(state, tmp_path / "weights.pt")

    model = loaded(tmp_path / "weights.pt")

    assert torch.float32 == model.fc.weight.dtype
    assert torch.equal(state["fc.weight"].float(), model.fc.weight)


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "it_ran"
    torch.save({"fc.weight": Malicious(mark)}, tmp_path / "zip.pt")
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps(Malicious(mark)))
    torch.save({"x": Malicious(mark)}, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)

    for name in ("zip.pt", "bare.pkl", "legacy.pt"):
        with pytest.raises(CheckpointError, match=f"{name}' hold more than tensors.*never unpickled"):
            read_weights(tmp_path / name)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (
            lambda path: path.write_bytes(b"garbage, and a lot of it"),
            "are neither safetensors nor what torch.save writes",
        ),
        (lambda path: path.write_bytes(b""), "are neither safetensors"),
        (lambda path: path.write_bytes(b"PK\x03\x04 and no archive"), "cannot be read: PytorchStreamReader failed"),
        (lambda path: torch.save(tiny_net(), path), r"hold more than tensors \(.*TinyNet\), which is never unpickled"),
        (lambda path: torch.save([torch.ones(2)], path), "hold a list; save model.state_dict"),
        (lambda path: torch.save({"epoch": 3}, path), "'epoch' is a int, not a named tensor"),
        (lambda path: torch.save({3: torch.ones(1)}, path), "3 is a Tensor, not a named tensor"),
        (lambda path: torch.save({}, path), "hold no tensors"),
        (lambda path: save_mask(path, random_mask(tiny_net()), {}), "a mask file"),
        (lambda path: path.mkdir(), "no such file"),
        (lambda path: None, "no such file"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, write: Callable[[Path], object], said: str) -> None:
    path = tmp_path / "weights"
    write(path)

    with pytest.raises(CheckpointError, match=said) as caught:
        read_weights(path)

    assert 1 == len(str(caught.value).splitlines())
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("count", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["torch", "safetensors"])
def test_a_truncated_file_is_an_error(tmp_path: Path, kind: str, count: float) -> None:
    path = tmp_path / "weights"
    state = tiny_net().state_dict()
    save_file(state, path) if kind == "safetensors" else torch.save(state, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(count * len(whole))])

    with pytest.raises(CheckpointError, match="weights"):
        read_weights(path)


def changed(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    state = dict(tiny_net(seed=0).state_dict())
    for key, value in changes.items():
        name = key.replace("__", ".")
        if value is None:
            del state[name]
        else:
            state[name] = value
    return state


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (changed(fc__weight=None), r"1 missing \('fc.weight'\)"),
        (changed(extra=torch.ones(1)), r"1 unexpected \('extra'\)"),
        (
            changed(fc__weight=torch.ones(5, 8), fc__bias=torch.ones(5)),
            r"2 mis-shaped \('fc.weight': file \(5, 8\), model \(3, 8\), 'fc.bias': file \(5,\), model \(3,\)\); "
            "they must be of this model, with as many classes",
        ),
        (changed(fc__bias=torch.tensor([0.0, float("nan"), 0.0])), "'fc.bias' holds NaN or infinity"),
        (changed(fc__bias=torch.ones(3, dtype=torch.int64)), "'fc.bias' is torch.int64; the model has torch.float32"),
        (changed(fc__bias=torch.ones(3).to_sparse()), "'fc.bias' must be a plain dense tensor"),
        (changed(fc__bias=torch.ones(3, dtype=torch.complex64)), "'fc.bias' must be a plain dense tensor"),
    ],
)
def test_what_does_not_fit_changes_nothing(tensors: dict[str, torch.Tensor], said: str) -> None:
    model = tiny_net(seed=1)

    with pytest.raises(CheckpointError, match=f"weights 'given'.*{said}"):
        load_weights_(model, tensors, "given")

    assert same(tiny_net(seed=1), model)


def test_the_digest_is_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")

    assert "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" == weights_digest(tmp_path / "file")
