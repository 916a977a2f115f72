"""What a layer costs, against numbers worked out by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ntksap_export import models
from ntksap_export.errors import ConfigError
from ntksap_export.masks import LayerCost, Mask, format_table, layer_costs, mask_table

from ..support.nets import random_mask, tiny_net


class Net(nn.Module):
    """Stride, groups, padding, a linear layer over tokens, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)  # 8x8 -> 4x4
        self.grouped = nn.Conv2d(8, 12, 3, groups=4, bias=False)  # 4x4 -> 2x2
        self.wide = nn.Conv2d(12, 6, (1, 3), padding=(0, 1), dilation=1)  # 2x2
        self.tokens = nn.Linear(6, 5)  # over (N, 4, 6)
        self.fc = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.wide(self.grouped(self.stem(x)))
        x = self.tokens(x.flatten(2).transpose(1, 2))  # (N, 4, 5)
        logits: torch.Tensor = self.fc(x.mean(1))
        return logits


def test_costs_of_a_small_net() -> None:
    costs = layer_costs(Net(), (3, 8, 8))

    assert (
        LayerCost("stem.weight", "conv", (8, 3, 3, 3), 216, 16, 216 * 16),
        LayerCost("grouped.weight", "conv", (12, 2, 3, 3), 216, 4, 216 * 4),
        LayerCost("wide.weight", "conv", (6, 12, 1, 3), 216, 4, 216 * 4),
        LayerCost("tokens.weight", "linear", (5, 6), 30, 4, 30 * 4),
        LayerCost("fc.weight", "linear", (2, 5), 10, 1, 10),
    ) == costs


def test_costs_grow_with_the_image_where_positions_do() -> None:
    costs = {cost.name: cost.macs for cost in layer_costs(tiny_net(), (3, 17, 17))}

    assert {"conv1.weight": 162 * 17 * 17, "conv2.weight": 432 * 8 * 8, "fc.weight": 24} == costs


@pytest.mark.parametrize(("name", "size", "gmacs"), [("resnet50", 224, 4.087), ("resnet18", 224, 1.814)])
def test_costs_of_known_networks(name: str, size: int, gmacs: float) -> None:
    costs = layer_costs(models.build(name, num_classes=1000), (3, size, size))

    assert gmacs == pytest.approx(sum(cost.macs for cost in costs) / 1e9, rel=0.01)


@pytest.mark.parametrize("name", models.MODELS)
def test_costs_name_what_a_mask_names(name: str) -> None:
    model = models.build(name, num_classes=10, stem="auto")

    size = models.info(name).image_size
    costs = layer_costs(model, (3, size, size))

    assert {key: kept.numel() for key, kept in Mask.dense(model).items()} == {cost.name: cost.weights for cost in costs}


def test_a_layer_that_runs_twice_counts_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.conv(self.conv(x))
            return result

    assert (LayerCost("conv.weight", "conv", (3, 3, 1, 1), 9, 32, 288),) == layer_costs(Twice(), (3, 4, 4))


def test_a_weight_that_two_layers_share_is_one_row_with_both_uses() -> None:
    model = nn.Sequential(nn.Flatten(2), nn.Linear(4, 4), nn.Linear(4, 4))
    model[2].weight = model[1].weight

    costs = layer_costs(model, (3, 2, 2))

    assert (LayerCost("1.weight", "linear", (4, 4), 16, 6, 96),) == costs
    assert 16 == mask_table(Mask.dense(model), costs).weights


def test_images_folded_into_the_batch_are_counted() -> None:
    class Frames(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 1)
            self.fc = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x.reshape(-1, 1, *x.shape[2:]))  # (N * C, 2, H, W)
            result: torch.Tensor = self.fc(x.mean((2, 3)))
            return result

    assert [2 * 3 * 16, 4 * 3] == [cost.macs for cost in layer_costs(Frames(), (3, 4, 4))]


def test_a_lone_layer_is_named_as_in_its_mask() -> None:
    model = nn.Conv2d(3, 4, 3)

    assert list(Mask.dense(model)) == [cost.name for cost in layer_costs(model, (3, 8, 8))]


def test_counting_leaves_the_model_alone() -> None:
    model = tiny_net().train()
    before = copy.deepcopy(model.state_dict())

    layer_costs(model, (3, 8, 8))

    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert {torch.device("cpu")} == {parameter.device for parameter in model.parameters()}
    assert all(module.training and not module._forward_hooks for module in model.modules())


def test_an_image_that_does_not_fit_is_named() -> None:
    with pytest.raises(ConfigError, match=r"cannot take an image of shape \(3, 8, 8\): .*; try another --image-size"):
        layer_costs(models.build("vgg16_bn", num_classes=10), (3, 8, 8))


def test_table_sums_its_rows() -> None:
    model = Net()
    mask = random_mask(model, density=0.4)

    table = mask_table(mask, layer_costs(model, (3, 8, 8)))

    positions = {"stem.weight": 16, "grouped.weight": 4, "wide.weight": 4, "tokens.weight": 4, "fc.weight": 1}
    kept = {name: int(mask[name].sum()) for name in mask}
    kept_macs = {name: kept[name] * positions[name] for name in mask}
    assert kept == {row.name: row.kept for row in table.rows}
    assert kept_macs == {row.name: row.kept_macs for row in table.rows}
    assert (mask.total, mask.kept, mask.density) == (table.weights, table.kept, table.density)
    assert (5314, sum(kept_macs.values())) == (table.macs, table.kept_macs)
    assert sum(kept_macs.values()) / 5314 == table.flop_density
    assert 5314 / sum(kept_macs.values()) == table.theoretical_speedup
    assert 1 == pytest.approx(sum(row.flop_share for row in table.rows))
    assert kept_macs["stem.weight"] / sum(kept_macs.values()) == table.rows[0].flop_share
    assert kept["stem.weight"] / 216 == table.rows[0].density


def test_flop_density_is_not_density() -> None:
    model = tiny_net()
    mask = Mask({**Mask.dense(model), "conv1.weight": torch.zeros(6, 3, 3, 3, dtype=torch.bool)})

    table = mask_table(mask, layer_costs(model, (3, 9, 9)))

    assert 456 / 618 == table.density
    assert (432 * 16 + 24) / (162 * 81 + 432 * 16 + 24) == table.flop_density


def test_layers_outside_the_mask_are_dense() -> None:
    model = tiny_net()
    mask = Mask({"fc.weight": torch.zeros(3, 8, dtype=torch.bool)})

    table = mask_table(mask, layer_costs(model, (3, 9, 9)))

    assert [162, 432, 0] == [row.kept for row in table.rows]


def test_an_empty_mask_divides_nothing_by_zero() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
    mask = Mask({"1.weight": torch.zeros(2, 3, dtype=torch.bool)})

    table = mask_table(mask, layer_costs(model, (3, 1, 1)))

    assert (0.0, 0.0, 0.0) == (table.flop_density, table.theoretical_speedup, table.rows[0].flop_share)


def test_table_as_text() -> None:
    model = tiny_net()
    mask = Mask({**Mask.dense(model), "fc.weight": torch.eye(3, 8, dtype=torch.bool)})

    lines = format_table(mask_table(mask, layer_costs(model, (3, 9, 9)))).splitlines()

    assert ["layer", "conv1.weight", "conv2.weight", "fc.weight", "total"] == [line.split()[0] for line in lines]
    assert ["fc.weight", "3x8", "24", "3", "12.50%", "0.01%"] == lines[3].split()
    assert ["total", "618", "597", "96.60%", "FLOP", "density", "99.90%"] == lines[4].split()[:7]
    assert "theoretical speed-up 1.00x" in lines[4]


class WithSpare(nn.Module):
    """A layer that no forward pass uses."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.spare = nn.Conv2d(3, 2, 1), nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.used(x)
        return result


def test_a_layer_that_never_runs_costs_weights_and_no_macs() -> None:
    costs = {cost.name: cost for cost in layer_costs(WithSpare(), (3, 4, 4))}

    assert {"used.weight", "spare.weight"} == set(costs)
    assert ("unused", 20, 0) == (costs["spare.weight"].kind, costs["spare.weight"].weights, costs["spare.weight"].macs)
