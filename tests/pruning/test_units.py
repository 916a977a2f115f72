"""The graph of units: what feeds what, through shortcuts, concatenations, flattening; what cannot be followed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from ntksap_export import models
from ntksap_export.errors import ConfigError
from ntksap_export.masks import prunable_names
from ntksap_export.pruning.units import Hop, UnitGraph, unit_graph


class Net(nn.Module):
    """A stem of 4 channels, what is given in the middle, and a classifier of what that leaves."""

    def __init__(self, middle: Callable[..., torch.Tensor], features: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.same = nn.Conv2d(4, 4, 1)
        self.other = nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(features, 2)
        self.middle = middle

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(self.middle(self, functional.relu(self.stem(x))))
        return logits


def layers(graph: UnitGraph) -> list[str]:
    return [hop.layer for hop in graph.hops if hop.layer is not None]


def places_between(graph: UnitGraph, first: str, last: str) -> set[tuple[str | None, ...]]:
    """Every way from the output of one layer to the input of another: the layers on it."""
    (start,) = (hop.target for hop in graph.hops if hop.layer == first)
    (end,) = (hop.source for hop in graph.hops if hop.layer == last)

    def ways(place: int) -> set[tuple[str | None, ...]]:
        if place == end:
            return {()}
        hops = [hop for hop in graph.hops if hop.source == place]
        return {((hop.layer, *way) if hop.layer else way) for hop in hops for way in ways(hop.target)}

    return ways(start)


def test_a_chain_is_a_chain() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, groups=1), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))

    graph = unit_graph(model, (3, 5, 5))

    expected = (Hop(0, 1, "0.weight"), Hop(1, 2), Hop(2, 3, repeat=9), Hop(3, 4, "3.weight"))
    assert UnitGraph((3, 4, 4, 36, 2), expected) == graph


def test_a_residual_block_is_a_choice_of_ways() -> None:
    def middle(net: Net, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(net.other(functional.relu(net.same(x))) + x).mean((2, 3))

    graph = unit_graph(Net(middle), (3, 5, 5))

    assert {(), ("same.weight", "other.weight")} == places_between(graph, "stem.weight", "fc.weight")


def test_a_gate_is_a_way_too() -> None:
    def middle(net: Net, x: torch.Tensor) -> torch.Tensor:
        return (x * torch.sigmoid(net.same(functional.adaptive_avg_pool2d(x, 1)))).mean((2, 3))

    graph = unit_graph(Net(middle), (3, 5, 5))

    assert {(), ("same.weight",)} == places_between(graph, "stem.weight", "fc.weight")


def test_concatenated_channels_keep_their_places() -> None:
    def middle(net: Net, x: torch.Tensor) -> torch.Tensor:
        constant = net.fc.bias[:1].view(1, 1, 1, 1).expand(x.shape[0], 1, 5, 5)
        return torch.cat([net.same(x), constant, x], dim=1).mean((2, 3))

    graph = unit_graph(Net(middle, features=9), (3, 5, 5))

    (joined,) = {hop.target for hop in graph.hops if hop.offset}
    assert [(4, 0), (4, 5)] == [(graph.units[hop.source], hop.offset) for hop in graph.hops if hop.target == joined]
    assert 9 == graph.units[joined]


def test_concatenated_positions_are_a_sum_of_ways() -> None:
    def middle(net: Net, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([net.same(x), x], dim=2).mean((2, 3))

    graph = unit_graph(Net(middle), (3, 5, 5))

    assert {(), ("same.weight",)} == places_between(graph, "stem.weight", "fc.weight")


@pytest.mark.parametrize(
    ("middle", "repeat"),
    [
        (lambda net, x: x.view(x.size(0), -1), 25),
        (lambda net, x: x.reshape(x.shape[0], 4, 25).flatten(1), 25),
        (lambda net, x: x.permute(0, 2, 3, 1).mean((1, 2)), 1),
        (lambda net, x: x.transpose(1, 3).mean(dim=(1, 2)), 1),
        (lambda net, x: functional.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1), 1),
        (lambda net, x: x[:, :, 2, 3], 1),
    ],
    ids=["view", "reshape", "permute", "transpose", "squeeze", "index"],
)
def test_channels_are_followed_to_the_classifier(middle: Callable[..., torch.Tensor], repeat: int) -> None:
    graph = unit_graph(Net(middle, features=4 * repeat), (3, 5, 5))

    assert ["stem.weight", "fc.weight"] == layers(graph)
    (last,) = (hop for hop in graph.hops if hop.layer == "fc.weight")
    repeats = [hop.repeat for hop in graph.hops if hop.repeat != 1]
    assert (4 * repeat, [repeat] if repeat != 1 else []) == (graph.units[last.source], repeats)


def test_a_layer_beside_the_road_is_not_in_the_graph() -> None:
    def middle(net: Net, x: torch.Tensor) -> torch.Tensor:
        net.other(x)  # its output goes nowhere
        return net.same(x).mean((2, 3))

    assert ["stem.weight", "same.weight", "fc.weight"] == layers(unit_graph(Net(middle), (3, 5, 5)))


def test_a_shared_weight_has_one_name() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 12), nn.Linear(12, 2))
    model[3].weight = model[1].weight

    assert ["1.weight", "1.weight", "4.weight"] == layers(unit_graph(model, (3, 2, 2)))


@pytest.mark.parametrize("name", ["resnet20", "resnet50", "vgg16_bn"])
def test_our_models_have_every_layer_in_the_graph(name: str) -> None:
    model = models.build(name, num_classes=10)

    graph = unit_graph(model, (3, 64, 64))

    assert set(prunable_names(model)) == set(layers(graph))
    assert (3, 10) == (graph.units[0], graph.units[-1])


def test_the_model_is_not_touched() -> None:
    model = models.build("resnet20", num_classes=10).train()
    versions = [tensor._version for tensor in (*model.parameters(), *model.buffers())]
    state = torch.get_rng_state().tolist()

    unit_graph(model, (3, 16, 16))

    assert versions == [tensor._version for tensor in (*model.parameters(), *model.buffers())]
    assert all(module.training and not module._forward_hooks for module in model.modules())
    assert state == torch.get_rng_state().tolist()


def shuffled(net: Net, x: torch.Tensor) -> torch.Tensor:
    return x.view(x.shape[0], 2, 2, 5, 5).transpose(1, 2).flatten(1, 2).mean((2, 3))


def branching(net: Net, x: torch.Tensor) -> torch.Tensor:
    return (net.same(x) if bool(x.sum() > 0) else x).mean((2, 3))


def padded(net: Net, x: torch.Tensor) -> torch.Tensor:
    return functional.pad(x, (0, 0, 0, 0, 1, 1)).mean((2, 3))


@pytest.mark.parametrize(
    ("middle", "message"),
    [
        (branching, r"the paths of Net cannot be traced: .*control flow; choose another --method"),
        (shuffled, r"through 'view' cannot be followed: \(97, 4, 5, 5\) -> \(97, 2, 2, 5, 5\)"),
        (padded, r"through 'pad' cannot be followed: \(97, 4, 5, 5\) -> \(97, 6, 5, 5\); choose another --method"),
        (lambda net, x: x.chunk(2, dim=1)[0].mean((2, 3)), r"through 'chunk' cannot be followed: a tuple of tensors"),
        (lambda net, x: (x @ x).mean((2, 3)), r"through 'matmul' cannot be followed: it mixes channels"),
        (lambda net, x: net.same(x.transpose(1, 2).transpose(1, 3)).mean((2, 3)), r"'same' .*do not stand where"),
    ],
    ids=["branching", "shuffled", "padded", "chunk", "matmul", "wrong axis"],
)
def test_what_cannot_be_followed_is_refused(middle: Callable[..., torch.Tensor], message: str) -> None:
    size = 4 if "stand" in message else 5  # the wrong axis has to have the right size
    features = 2 if "chunk" in message else 6 if middle is padded else 4

    with pytest.raises(ConfigError, match=message):
        unit_graph(Net(middle, features=features), (3, size, size))
