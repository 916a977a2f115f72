"""Masks to and from torch.nn.utils.prune."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from ntksap_export.errors import CheckpointError
from ntksap_export.masks import Mask, from_torch_prune, to_torch_prune_

from ..support.nets import random_mask, tiny_net


class Tied(nn.Module):
    """Two layers, one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))  # type: ignore[no-any-return]


def test_there_and_back_is_the_same_mask() -> None:
    model = tiny_net()
    mask = random_mask(model)

    to_torch_prune_(model, mask)

    assert list(mask) == list(from_torch_prune(model))
    assert mask.digest() == from_torch_prune(model).digest()


def test_torch_computes_what_the_masked_model_does() -> None:
    model, masked = tiny_net().eval(), tiny_net().eval()
    mask = random_mask(model)
    mask.apply_(masked)
    images = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    before = model.conv1.weight

    to_torch_prune_(model, mask)

    assert torch.equal(masked(images), model(images))
    assert before is model.conv1.weight_orig
    assert torch.equal(tiny_net().conv1.weight, before)


def test_made_permanent_it_is_a_plain_model_again() -> None:
    model, masked = tiny_net(), tiny_net()
    mask = random_mask(model)
    mask.apply_(masked)

    to_torch_prune_(model, mask)
    for layer in (model.conv1, model.conv2, model.fc):
        prune.remove(layer, "weight")

    assert set(masked.state_dict()) == set(model.state_dict())
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in masked.state_dict().items())


def test_what_torch_does_not_prune_is_kept() -> None:
    model = tiny_net()
    prune.l1_unstructured(model.conv2, "weight", amount=0.25)
    prune.random_unstructured(model.conv2, "weight", amount=10)  # a container of two methods

    mask = from_torch_prune(model)

    assert ["conv1.weight", "conv2.weight", "fc.weight"] == list(mask)
    assert mask.total - 118 == mask.kept
    assert torch.equal(model.conv2.weight_mask.bool(), mask["conv2.weight"])


def test_a_bare_layer_has_the_name_weight() -> None:
    layer = nn.Linear(4, 2)
    mask = Mask({"weight": torch.eye(2, 4, dtype=torch.bool)})

    to_torch_prune_(layer, mask)

    assert mask.same_as(from_torch_prune(layer))


def test_a_shared_weight_is_masked_in_both_layers() -> None:
    model = Tied()
    mask = Mask({"first.weight": torch.eye(3, dtype=torch.bool)})

    to_torch_prune_(model, mask)

    assert torch.equal(model.first.weight, model.second.weight)
    assert 6 == int((model.second.weight == 0).sum())
    assert mask.same_as(from_torch_prune(model))


def test_a_layer_that_torch_prunes_already_is_refused() -> None:
    model = tiny_net()
    mask = random_mask(model)
    prune.identity(model.conv2, "weight")

    with pytest.raises(CheckpointError, match="'conv2' is pruned by torch"):
        to_torch_prune_(model, mask)

    assert not hasattr(model.conv1, "weight_mask")


def test_a_mask_of_another_model_is_refused() -> None:
    model = tiny_net(classes=3)

    with pytest.raises(CheckpointError, match=r"'fc\.weight' has shape \(4, 8\)"):
        to_torch_prune_(model, Mask.dense(tiny_net(classes=4)))

    assert not prune.is_pruned(model)


def test_a_mask_of_other_values_is_refused() -> None:
    model = tiny_net()
    prune.identity(model.fc, "weight")
    model.fc.weight_mask[0, 0] = 0.5

    with pytest.raises(CheckpointError, match=r"'fc\.weight_mask' must hold 0 and 1 only; got 0\.5"):
        from_torch_prune(model)


def test_a_pruned_bias_is_not_lost_in_silence() -> None:
    model = tiny_net()
    prune.l1_unstructured(model.fc, "bias", amount=1)

    with pytest.raises(CheckpointError, match=r"torch prunes 'fc\.bias'"):
        from_torch_prune(model)
