"""Rescaled initialization: the formula per output, what is left alone, and the variance it is for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ntksap_export.errors import CheckpointError
from ntksap_export.masks import Mask, fan_in
from ntksap_export.training import rescale_init_

from ..support.nets import random_mask
from .cases import net


def test_fan_in_counts_what_each_output_still_has() -> None:
    mask = random_mask(net(), 0.4)

    counts = fan_in(mask)

    for name, kept in mask.items():
        assert [sum(row.flatten().tolist()) for row in kept] == counts[name].tolist()


def test_every_kept_weight_grows_by_the_root_of_fan_in_over_kept() -> None:
    model = net()
    mask = random_mask(model, 0.4)
    mask = Mask({name: kept.index_fill(0, torch.tensor([2]), False) for name, kept in mask.items()})
    mask.apply_(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    rescale_init_(model, mask)

    for name, value in model.state_dict().items():
        if name not in mask:
            assert torch.equal(before[name], value), name
            continue
        for row, kept, after in zip(before[name], mask[name], value, strict=True):
            live = int(kept.sum())
            factor = (row.numel() / live) ** 0.5 if live else 1.0
            torch.testing.assert_close(after.double(), row.double() * factor, rtol=1e-6, atol=0)


def test_the_dense_mask_changes_nothing() -> None:
    model = net()
    before = model.conv1.weight.clone()

    rescale_init_(model, Mask.dense(model))

    assert torch.equal(before, model.conv1.weight)


def test_a_weight_drawn_for_more_inputs_is_scaled_from_those() -> None:
    model = nn.Linear(4, 3)
    before = model.weight.detach().clone()

    rescale_init_(model, Mask.dense(model), {"weight": 16})

    assert torch.equal(2 * before, model.weight)


def test_a_foreign_mask_is_refused() -> None:
    with pytest.raises(CheckpointError, match="made for another"):
        rescale_init_(net(), Mask({"conv9.weight": torch.ones(2, 2, dtype=torch.bool)}))


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_the_signal_of_a_masked_layer_is_as_strong_as_the_dense_ones(kind: str) -> None:
    """Each output has a fan-in of its own; without rescaling its variance is that share of the dense one."""
    random = torch.Generator().manual_seed(0)
    layer = nn.Linear(2048, 64, bias=False) if kind == "linear" else nn.Conv2d(512, 64, 3, bias=False)
    with torch.no_grad():
        layer.weight.normal_(0.0, layer.weight[0].numel() ** -0.5, generator=random)
    shares = torch.linspace(0.02, 0.9, 64).reshape(-1, *[1] * (layer.weight.ndim - 1))
    mask = Mask({"weight": torch.rand(layer.weight.shape, generator=random) < shares})
    shape = (400, 2048) if kind == "linear" else (100, 512, 4, 4)
    inputs = torch.randn(shape, generator=random)

    def variance() -> torch.Tensor:
        with torch.no_grad():
            return layer(inputs).transpose(0, 1).flatten(1).var(1)

    dense = float(variance().mean())
    mask.apply_(layer)
    masked = variance()
    rescale_init_(layer, mask)
    rescaled = variance()

    assert 0.02 == pytest.approx(float(masked[0]) / dense, rel=0.5)
    assert 1.0 == pytest.approx(dense, rel=0.1)
    assert 1.0 == pytest.approx(float(rescaled.mean()) / dense, rel=0.1)
    assert float((rescaled[:16].mean() / rescaled[-16:].mean() - 1).abs()) < 0.15
