from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from hypothesis import given
from safetensors import safe_open
from torch import nn

from ntksap_export.checkpoint import SparseCheckpoint, describe
from ntksap_export.checkpoint.encodings import ENCODINGS
from ntksap_export.errors import CheckpointError
from ntksap_export.masks import Mask

from .checkpoint_cases import (
    PROVENANCE,
    UNHURRIED,
    Net,
    bits,
    checkpoint_of_net,
    checkpoints,
    content,
    pruned_net,
    split,
    tensor_of,
)


def reordered(checkpoint: SparseCheckpoint, order: random.Random) -> SparseCheckpoint:
    def shuffled(mapping: Any) -> dict[str, Any]:
        return dict(order.sample(list(mapping.items()), len(mapping)))

    return SparseCheckpoint(shuffled(checkpoint.tensors), Mask(shuffled(checkpoint.mask)), checkpoint.provenance)


@UNHURRIED
@given(checkpoint=checkpoints())
def test_load_gives_back_every_bit(tmp_path_factory: pytest.TempPathFactory, checkpoint: SparseCheckpoint) -> None:
    path = tmp_path_factory.mktemp("law") / "model.safetensors"
    checkpoint.save(path)

    loaded = SparseCheckpoint.load(path)

    assert content(checkpoint) == content(loaded)
    assert path.read_bytes() == loaded.to_bytes()
    assert checkpoint.size_report() == describe(path)


@UNHURRIED
@given(checkpoint=checkpoints())
def test_bytes_do_not_depend_on_order(checkpoint: SparseCheckpoint) -> None:
    order = random.Random(0)

    assert {checkpoint.to_bytes()} == {reordered(checkpoint, order).to_bytes() for _ in range(3)}


@pytest.mark.parametrize("encoding", ["auto", *ENCODINGS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_special_values_survive(tmp_path: Path, dtype: torch.dtype, encoding: str) -> None:
    values = [[0.0, -0.0, float("nan"), float("inf"), -float("inf"), 1.5, 0.0, 0.0] + [0.0] * 56]
    mask = [[True] * 7 + [False] * 57]
    checkpoint = tensor_of(values, mask, dtype)
    checkpoint.save(tmp_path / "model.safetensors", encoding)

    loaded = SparseCheckpoint.load(tmp_path / "model.safetensors")

    assert bits(checkpoint.tensors["fc.weight"]) == bits(loaded.tensors["fc.weight"])
    assert mask == loaded.mask["fc.weight"].tolist()


def test_nan_payload_survives(tmp_path: Path) -> None:
    signalling = torch.tensor([[0x7F800001, -1, 0, 0] + [0] * 60], dtype=torch.int32).view(torch.float32)
    kept = torch.tensor([[True, True] + [False] * 62])
    SparseCheckpoint({"fc.weight": signalling}, Mask({"fc.weight": kept}), PROVENANCE).save(tmp_path / "nan")

    loaded = SparseCheckpoint.load(tmp_path / "nan").tensors["fc.weight"]

    assert loaded.view(torch.int32)[0, :3].tolist() == [0x7F800001, -1, 0]


def test_of_zeroes_what_is_pruned_and_leaves_the_model() -> None:
    net, mask = pruned_net()
    before = {name: bits(value) for name, value in net.state_dict().items()}

    checkpoint = SparseCheckpoint.of(net, mask, PROVENANCE)

    assert before == {name: bits(value) for name, value in net.state_dict().items()}
    assert list(before) == list(checkpoint.tensors)
    for name, kept in mask.items():
        assert bits(torch.where(kept, net.state_dict()[name], 0.0)) == bits(checkpoint.tensors[name])
    with torch.no_grad():
        net.norm.running_mean.add_(1.0)  # type: ignore[union-attr]
    assert before["norm.running_mean"] == bits(checkpoint.tensors["norm.running_mean"])


def test_of_takes_channels_last() -> None:
    net, mask = pruned_net()
    expected = content(SparseCheckpoint.of(net, mask, PROVENANCE))

    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    assert expected == content(SparseCheckpoint.of(net, mask, PROVENANCE))


def test_shared_weight_is_pruned_under_both_names(tmp_path: Path) -> None:
    first, second = nn.Linear(64, 2, bias=False), nn.Linear(64, 2, bias=False)
    second.weight = first.weight
    net = nn.ModuleDict({"a": first, "b": second})
    kept = torch.rand(2, 64) < 0.25
    SparseCheckpoint.of(net, Mask({"a.weight": kept}), PROVENANCE).save(tmp_path / "tied")

    SparseCheckpoint.load(tmp_path / "tied").restore_(net)

    assert int(first.weight[~kept].count_nonzero()) == 0
    assert int(kept.sum()) == int(second.weight.count_nonzero())


def test_tensors_that_share_memory_are_stored_apart(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    checkpoint = SparseCheckpoint({"a": shared, "b": shared, "c": shared[2:]}, Mask({}), PROVENANCE)
    checkpoint.save(tmp_path / "shared")

    loaded = SparseCheckpoint.load(tmp_path / "shared")

    assert content(checkpoint) == content(loaded)


def test_bare_linear_layer_is_stored_by_its_whole_name(tmp_path: Path) -> None:
    layer = nn.Linear(64, 4)
    mask = Mask({"weight": torch.rand(4, 64) < 0.1})
    checkpoint = SparseCheckpoint.of(layer, mask, PROVENANCE)
    checkpoint.save(tmp_path / "linear")

    loaded = SparseCheckpoint.load(tmp_path / "linear")

    assert content(checkpoint) == content(loaded)
    assert "weight.bitmask" in split(checkpoint.to_bytes("bitmask"))[0]
    assert "weight.packed" in split(checkpoint.to_bytes())[0]


def test_all_of_a_models_state_is_in_the_file(tmp_path: Path) -> None:
    checkpoint = checkpoint_of_net()
    checkpoint.save(tmp_path / "model.safetensors")

    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        names, metadata = set(file.keys()), file.metadata()

    assert {
        "stem.weight.packed",
        "classifier.weight.packed",
        "classifier.bias",
        "norm.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
        "norm.num_batches_tracked",
    } == names
    assert list(metadata) == ["ntksap"]


def test_size_report_sums_only_prunable_weights_as_kept() -> None:
    _, mask = pruned_net()
    checkpoint = checkpoint_of_net()

    report = checkpoint.size_report()

    assert (mask.kept, mask.total) == (report.kept, report.total)
    assert sum(tensor.nbytes for tensor in checkpoint.tensors.values()) == report.dense_bytes
    assert len(split(checkpoint.to_bytes())[1]) == report.stored_bytes
    assert sorted(checkpoint.tensors) == [row.name for row in report.rows]


@pytest.mark.parametrize("clash", ["stem.shape", "stem.bitmask", "stem.compressed", "stem.row_offsets"])
@pytest.mark.parametrize("density", [1.0, 0.1])
def test_name_that_collides_is_refused_however_dense(clash: str, density: float) -> None:
    net, mask = pruned_net(density)
    net.get_submodule("stem").register_buffer(clash.removeprefix("stem."), torch.zeros(1))

    with pytest.raises(CheckpointError, match=f"under the name '{clash}'"):
        SparseCheckpoint.of(net, mask, PROVENANCE)


def test_name_of_a_packed_tensor_is_taken_whether_or_not_it_is_packed() -> None:
    with pytest.raises(CheckpointError, match=r"under the name 'a\.packed'"):
        SparseCheckpoint({"a": torch.ones(1), "a.packed": torch.ones(1)}, Mask({}), PROVENANCE)


def test_two_weights_of_one_prefix_are_refused() -> None:
    net = nn.ParameterDict({"a": nn.Parameter(torch.ones(2, 2))})
    tensors = {"a": torch.ones(2, 2), "a.weight": torch.ones(2, 2)}
    dense = {name: torch.ones(2, 2, dtype=torch.bool) for name in tensors}
    assert len(SparseCheckpoint.of(net, Mask({"a": dense["a"]}), PROVENANCE).tensors) == 1

    with pytest.raises(CheckpointError, match=r"under the name 'a\.bitmask'"):
        SparseCheckpoint(tensors, Mask(dense), PROVENANCE)


def test_of_refuses_a_mask_of_another_model() -> None:
    net, mask = pruned_net()

    with pytest.raises(CheckpointError, match="another model"):
        SparseCheckpoint.of(net, Mask({**mask, "extra.weight": torch.ones(1, dtype=torch.bool)}), PROVENANCE)


@pytest.mark.parametrize(
    ("tensors", "kept", "message"),
    [
        (
            {"a.weight": torch.ones(2, 2)},
            torch.zeros(2, 2),
            "4 pruned weights of 'a.weight' are not exactly 0",
        ),
        ({"a.weight": -torch.zeros(2, 2)}, torch.zeros(2, 2), "4 pruned weights"),
        ({"a.weight": torch.ones(2, 2)}, torch.ones(4), r"has shape \(4,\), the checkpoint's \(2, 2\)"),
        ({}, torch.ones(4), "the mask has 'a.weight', which the checkpoint has not"),
        ({"a.weight": torch.ones(2, dtype=torch.complex64)}, torch.ones(2), "dtype torch.complex64"),
        ({"a.weight": torch.ones(2, device="meta")}, torch.ones(2), "only dense tensors"),
        ({"a.weight": torch.ones(2, 2).to_sparse()}, torch.ones(2, 2), "only dense tensors"),
        ({"a.weight": {"extra": "state"}}, torch.ones(2, 2), "only dense tensors"),
    ],
    ids=["revived", "minus-zero", "shape", "name", "complex", "meta", "sparse", "extra-state"],
)
def test_what_cannot_be_stored_cannot_be_made(tensors: Any, kept: torch.Tensor, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        SparseCheckpoint(tensors, Mask({"a.weight": kept.bool()}), PROVENANCE)


def test_tensors_cannot_be_replaced() -> None:
    checkpoint = checkpoint_of_net()

    with pytest.raises(TypeError):
        checkpoint.tensors["norm.bias"] = torch.zeros(1)  # type: ignore[index]


def test_restore_gives_the_model_back(tmp_path: Path) -> None:
    net, mask = pruned_net()
    mask.apply_(net)
    SparseCheckpoint.of(net, mask, PROVENANCE).save(tmp_path / "model.safetensors")
    other, _ = pruned_net(seed=1)

    SparseCheckpoint.load(tmp_path / "model.safetensors").restore_(other)

    expected = {name: bits(value) for name, value in net.state_dict().items()}
    assert expected == {name: bits(value) for name, value in other.state_dict().items()}
    assert all(parameter.requires_grad for parameter in other.parameters())


def test_restore_lists_all_that_does_not_fit_and_changes_nothing() -> None:
    checkpoint = checkpoint_of_net()
    other = Net(classes=7)
    del other.norm
    other.head = nn.Linear(2, 2)
    before = {name: bits(value) for name, value in other.state_dict().items()}

    with pytest.raises(CheckpointError) as caught:
        checkpoint.restore_(other)

    assert str(caught.value) == (
        "checkpoint of 'tiny' does not fit: 2 missing ('head.weight', 'head.bias'); "
        "5 unexpected ('norm.weight', 'norm.bias', 'norm.running_mean', 'norm.running_var', ...); "
        "2 mis-shaped ('classifier.weight': checkpoint (10, 16), model (7, 16), "
        "'classifier.bias': checkpoint (10,), model (7,)); "
        "build the model with the checkpoint's architecture, width and class count"
    )
    assert before == {name: bits(value) for name, value in other.state_dict().items()}


def test_restore_not_strict_takes_what_is_common() -> None:
    checkpoint = checkpoint_of_net()
    other, _ = pruned_net(seed=1)
    del other.norm
    other.head = nn.Linear(2, 2)
    head = bits(other.head.weight)

    checkpoint.restore_(other, strict=False)

    assert bits(checkpoint.tensors["stem.weight"]) == bits(other.stem.weight)
    assert head == bits(other.head.weight)


def test_restore_not_strict_still_checks_shapes() -> None:
    other = Net(classes=7)
    before = {name: bits(value) for name, value in other.state_dict().items()}

    with pytest.raises(CheckpointError, match="2 mis-shaped"):
        checkpoint_of_net().restore_(other, strict=False)

    assert before == {name: bits(value) for name, value in other.state_dict().items()}


def test_restore_refuses_a_model_without_memory() -> None:
    with pytest.raises(CheckpointError, match="to_empty"):
        checkpoint_of_net().restore_(Net().to("meta"))


def test_mask_for_puts_the_classifier_last_again(tmp_path: Path) -> None:
    net, mask = pruned_net()
    SparseCheckpoint.of(net, mask, PROVENANCE).save(tmp_path / "model.safetensors")

    loaded = SparseCheckpoint.load(tmp_path / "model.safetensors")

    assert list(loaded.mask) == ["classifier.weight", "stem.weight"]
    assert list(loaded.mask_for(net)) == ["stem.weight", "classifier.weight"]
    assert mask.same_as(loaded.mask_for(net))


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint_of_net(0.5).save(path)
    before = path.read_bytes()

    def full(descriptor: int) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint_of_net(0.1).save(path)

    assert before == path.read_bytes()
    assert [path] == list(tmp_path.iterdir())
