from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from ntksap_export.checkpoint import SparseCheckpoint, load_mask, save_mask
from ntksap_export.errors import CheckpointError
from ntksap_export.masks import Mask

from .checkpoint_cases import (
    PROVENANCE,
    UNHURRIED,
    checkpoint_of_net,
    document_of,
    forged,
    pruned_net,
    split,
    with_document,
)

shapes = st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=4)


@UNHURRIED
@given(shapes=shapes, seed=st.integers(0, 99))
def test_load_gives_back_bits_order_and_provenance(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[list[int]], seed: int
) -> None:
    path = tmp_path_factory.mktemp("mask") / "mask.safetensors"
    draw = torch.Generator().manual_seed(seed)
    mask = Mask({f"{9 - i}.weight": torch.rand(shape, generator=draw) < 0.5 for i, shape in enumerate(shapes)})
    save_mask(path, mask, {"method": "ntksap", "seed": seed})
    first = path.read_bytes()

    loaded, provenance = load_mask(path)
    save_mask(path, loaded, provenance)

    assert mask.same_as(loaded)
    assert list(mask) == list(loaded)
    assert {"method": "ntksap", "seed": seed} == provenance
    assert first == path.read_bytes()


def test_one_bit_per_weight_under_the_parameters_name(tmp_path: Path) -> None:
    row = torch.tensor([[0, 2, 3, 0, 0, 0, 0, 5, 0, 0, 7]]) != 0
    save_mask(tmp_path / "mask", Mask({"fc.weight": row, "conv.weight": torch.ones(2, 3, 3, 3) > 0}), {})

    with safe_open(tmp_path / "mask", framework="np") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()

    assert stored["fc.weight"].tolist() == [[134, 4]]
    assert stored["conv.weight"].tolist() == [[255, 255, 255, 7]] * 2
    assert {np.dtype(np.uint8)} == {packed.dtype for packed in stored.values()}
    assert list(metadata) == ["ntksap"]


def test_one_is_not_taken_for_the_other(tmp_path: Path) -> None:
    _, mask = pruned_net()
    save_mask(tmp_path / "mask", mask, PROVENANCE.to_json())
    checkpoint_of_net().save(tmp_path / "checkpoint")

    with pytest.raises(CheckpointError, match="a mask file, not a checkpoint; read it with load_mask"):
        SparseCheckpoint.load(tmp_path / "mask")
    with pytest.raises(CheckpointError, match=r"not a mask file; .* SparseCheckpoint\.load"):
        load_mask(tmp_path / "checkpoint")


def weights(*pairs: tuple[Any, Any]) -> dict[str, Any]:
    listed = [{"name": name, "shape": shape} for name, shape in pairs]
    return {"schema": 1, "kind": "mask", "weights": listed, "provenance": {}}


@pytest.mark.parametrize(
    ("parts", "document", "message"),
    [
        ({}, weights(("a", [1, 8])), "'a' is missing"),
        ({"a": ("U8", [1, 1], b"\1")}, weights(), "'a' is not listed"),
        ({"a": ("U8", [1, 1], b"\1")}, weights(("a", [1, 8]), ("a", [1, 8])), "listed twice"),
        ({"a": ("U8", [1, 1], b"\1")}, weights(("a", [1, 9])), r"must be uint8 \(1, 2\); got uint8 \(1, 1\)"),
        ({"a": ("I8", [1, 1], b"\1")}, weights(("a", [1, 8])), "must be uint8"),
        ({"a": ("U8", [1, 1], b"\x80")}, weights(("a", [1, 7])), "bits set beyond column 7"),
        ({"a": ("U8", [1, 1], b"\1")}, weights(("a", [-1, 8])), "list of sizes"),
        ({"a": ("U8", [1, 1], b"\1")}, weights(("a", [1, True])), "list of sizes"),
        ({"a": ("U8", [1, 1], b"\1")}, weights(("a", [2**40, 2**40])), "larger than any file"),
        ({"a": ("U8", [1, 1], b"\1")}, weights(("a", [2**20, 2**20])), "must be uint8"),
        ({"a": ("U8", [1, 1], b"\1")}, weights((["a"], [1, 8])), "a name and a shape"),
        ({}, {**weights(), "weights": {}}, "must be a list"),
        ({}, {**weights(), "provenance": []}, "provenance must be a JSON object"),
        ({}, {**weights(), "schema": 3}, "upgrade ntksap-export"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, parts: Any, document: Any, message: str) -> None:
    path = tmp_path / "mask.safetensors"
    path.write_bytes(forged(parts, document))

    with pytest.raises(CheckpointError, match=message) as caught:
        load_mask(path)

    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_endless_empty_rows_are_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mask.safetensors"
    path.write_bytes(forged({"a": ("U8", [2**48, 0], b"")}, weights(("a", [2**48, 0]))))

    mask, _ = load_mask(path)

    assert tuple(mask["a"].shape) == (2**48, 0)


@UNHURRIED
@given(data=st.data())
def test_damage_is_told_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("damage") / "mask.safetensors"
    save_mask(path, Mask({"b": torch.ones(3, 9) > 0, "a": torch.ones(2, 2) > 0}), {"seed": 1})
    damaged = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged[: data.draw(st.integers(len(damaged) - 9, len(damaged)))])

    try:
        mask, provenance = load_mask(path)
    except CheckpointError as error:
        assert str(path) in str(error)
    else:
        save_mask(path, mask, provenance)
        assert mask.same_as(load_mask(path)[0])


def test_newer_metadata_is_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "mask.safetensors"
    save_mask(path, Mask({"a": torch.ones(2, 2) > 0}), {})
    document = document_of(split(path.read_bytes())[0])
    path.write_bytes(with_document(path.read_bytes(), {**document, "schema": 3}))

    with pytest.raises(CheckpointError, match=r"newer ntksap-export \(schema 3, this one reads up to 2\)"):
        load_mask(path)


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_mask(tmp_path / "mask", Mask({"a": torch.ones(2, 2) > 0}), {})

    assert list(tmp_path.iterdir()) == []
