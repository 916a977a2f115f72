"""`Mask`: an immutable mapping that counts, identifies itself and goes onto a model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from ntksap_export.errors import CheckpointError
from ntksap_export.masks import Mask, prunable_names

from ..support.nets import random_mask, tiny_net


def bools(*values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.bool)


def small() -> Mask:
    return Mask({"a.weight": bools([1, 0], [0, 1]), "b": bools(1, 1, 0)})


class Tied(nn.Module):
    """Two linear layers with one weight, applied one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight


def test_counts() -> None:
    mask = small()

    assert (4, 7) == (mask.kept, mask.total)
    assert 4 / 7 == mask.density
    assert 1 - 4 / 7 == mask.sparsity
    assert ["a.weight", "b"] == list(mask)
    assert "Mask(2 tensors, kept 4 of 7, density 0.5714)" == repr(mask)


def test_dense_keeps_every_prunable_weight() -> None:
    model = tiny_net()

    mask = Mask.dense(model)

    assert ["conv1.weight", "conv2.weight", "fc.weight"] == list(mask)
    assert 6 * 3 * 9 + 8 * 6 * 9 + 3 * 8 == mask.kept == mask.total
    assert 0.0 == mask.sparsity


def test_cannot_be_changed() -> None:
    mask: Any = small()

    with pytest.raises(TypeError):
        mask["b"] = bools(0, 0, 0)
    with pytest.raises(TypeError):
        del mask["b"]
    with pytest.raises(AttributeError):
        mask.extra = 1


def test_does_not_follow_the_mapping_it_was_made_of() -> None:
    source = {"b": bools(1, 0)}
    mask = Mask(source)

    source["c"] = bools(1)

    assert ["b"] == list(mask)


def test_only_bools() -> None:
    with pytest.raises(TypeError, match=r"mask of 'b' must be bool; got torch\.float32"):
        Mask({"b": torch.ones(3)})


def test_digest_is_this_one_on_every_machine() -> None:
    # SHA-256 of b"a.weight(2, 2)", 1 0 0 1, b"b(3,)", 1 1 0
    expected = "46dda0a820ddcd6abe95fc34d97a1d53ea8f750b52c2b590f7a80dded4821635"

    assert expected == small().digest()


def test_digest_ignores_order_and_memory_layout() -> None:
    kept = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)) < 0.5
    mask = Mask({"a": kept, "b": bools(1, 0)})
    moved = Mask({"b": bools(1, 0), "a": kept.to(memory_format=torch.channels_last)})

    assert mask.digest() == moved.digest()
    assert mask.same_as(moved)


@pytest.mark.parametrize(
    "other",
    [
        Mask({"a.weight": bools([1, 0], [0, 0]), "b": bools(1, 1, 0)}),
        Mask({"a.weight": bools([1, 0], [0, 1]), "c": bools(1, 1, 0)}),
        Mask({"a.weight": bools(1, 0, 0, 1), "b": bools(1, 1, 0)}),
        Mask({"a.weight": bools([1, 0], [0, 1])}),
    ],
    ids=["one bit", "a name", "a shape", "a tensor less"],
)
def test_digest_sees_every_difference(other: Mask) -> None:
    assert small().digest() != other.digest()
    assert not small().same_as(other)
    assert not other.same_as(small())


def test_apply_zeroes_what_is_pruned_and_nothing_else() -> None:
    model = tiny_net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    mask = random_mask(model)

    mask.apply_(model)

    for name, tensor in model.state_dict().items():
        expected = before[name] * mask[name] if name in mask else before[name]
        assert torch.equal(expected, tensor), name


def test_apply_mends_what_multiplying_would_not() -> None:
    model = nn.Sequential(nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[float("nan"), 3.0]]))

    Mask({"0.weight": bools([0, 1])}).apply_(model)

    assert [[0.0, 3.0]] == model[0].weight.tolist()


def test_a_mask_of_another_model_is_refused_by_name_and_shape() -> None:
    model = tiny_net(classes=3)
    foreign = Mask({"layer1.weight": bools(1)})
    wider = Mask.dense(tiny_net(classes=5))
    before = model.fc.weight.detach().clone()

    with pytest.raises(CheckpointError, match=r"the mask has 'layer1\.weight', which the model has not; was it made"):
        foreign.check_fits(model)
    with pytest.raises(CheckpointError, match=r"'fc\.weight' has shape \(5, 8\), the model's \(3, 8\); was it made"):
        wider.apply_(model)
    assert torch.equal(before, model.fc.weight)


def test_prunable_are_conv_and_linear_weights_only() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LayerNorm(4), nn.Conv1d(4, 4, 1), nn.Embedding(3, 4), nn.Linear(4, 2)
    )

    assert ("0.weight", "5.weight") == prunable_names(model)


def test_a_shared_weight_is_prunable_once() -> None:
    model = Tied()

    assert ("first.weight",) == prunable_names(model)
    assert 16 == Mask.dense(model).total


def test_a_lone_layer_is_a_model() -> None:
    assert ("weight",) == prunable_names(nn.Linear(3, 2))
