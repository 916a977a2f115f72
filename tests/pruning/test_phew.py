"""PHEW: chances of its walks on networks of a few units, whole paths, and what it says of what it never met."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask
from ntksap_export.pruning import Budget, ScoringInputs, prune
from ntksap_export.pruning.scorers import phew
from ntksap_export.pruning.scorers.phew import Phew, _Walker
from ntksap_export.pruning.units import unit_graph

from ..support.nets import random_mask, tiny_net

INPUTS = ScoringInputs((3, 9, 9), seed=2)


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()


def walker(net: nn.Module, shape: tuple[int, int, int], mask: Mask | None = None, seed: int = 0) -> _Walker:
    kept = mask or Mask.dense(net)
    sizes = {name: net.get_parameter(name).detach().abs() * kept[name] for name in kept}
    return _Walker(unit_graph(net, shape), sizes, torch.Generator().manual_seed(seed))


def chances(weight: torch.Tensor, groups: int, units: torch.Tensor, forward: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The chance of each entry to be crossed and of each far unit to be reached, from those of the near units."""
    size = weight.detach().double().abs()
    crossed = torch.zeros_like(size)
    outputs, inputs = size.shape[0] // groups, size.shape[1]
    reached = torch.zeros(size.shape[0] if forward else inputs * groups, dtype=torch.float64)
    for near, chance in enumerate(units.tolist()):
        group = near // (inputs if forward else outputs)
        rows = slice(group * outputs, (group + 1) * outputs)
        place = (rows, near % inputs) if forward else (near, slice(None))
        share = size[place] / size[place].sum() * chance
        crossed[place] += share
        far = rows if forward else slice(group * inputs, (group + 1) * inputs)
        reached[far] += share.reshape(len(share), -1).sum(1)
    return crossed, reached


@pytest.mark.parametrize("forward", [True, False], ids=["from the image", "from the logits"])
def test_phew_walks_by_the_size_of_the_weights(forward: bool) -> None:
    net = seeded(
        lambda: nn.Sequential(
            *(nn.Conv2d(3, 4, 2, padding=1), nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), nn.ReLU()),
            *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 5), nn.ReLU(), nn.Linear(5, 3)),
        )
    )
    names = ["0.weight", "1.weight", "6.weight", "8.weight"]
    walks = 40000

    crossings = walker(net, (3, 5, 5))._batch(torch.arange(0, 2 * walks, 2), forward)

    counts = {
        each.layer: torch.bincount(each.weights, minlength=net.get_parameter(each.layer).numel()) for each in crossings
    }
    assert names == sorted(counts)
    units = torch.full((3,), 1 / 3, dtype=torch.float64)  # of the image and of the logits
    for name in names if forward else names[::-1]:
        expected, units = chances(net.get_parameter(name), 2 if name == "1.weight" else 1, units, forward)
        if forward and name == "1.weight":  # 2 x 2 positions a channel
            units = units.repeat_interleave(4) / 4
        if not forward and name == "6.weight":
            units = units.view(6, 4).sum(1)
        p = expected.flatten()
        deviation = (counts[name] - walks * p).abs() / (walks * p * (1 - p)).sqrt().clamp(min=1)
        assert float(deviation.max()) < 5, name


class Residual(nn.Module):
    """A block with an identity shortcut, and one with a convolution for shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.a1, self.a2 = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.b1, self.b2, self.short = nn.Conv2d(4, 5, 3), nn.Conv2d(5, 5, 3, padding=1), nn.Conv2d(4, 5, 1)
        self.unused, self.fc = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.a2(torch.relu(self.a1(x))))
        x = torch.relu(self.b2(torch.relu(self.b1(x))) + self.short(x[:, :, 1:-1, 1:-1]))
        logits: torch.Tensor = self.fc(x.mean((2, 3)))
        return logits


@pytest.mark.parametrize("forward", [True, False], ids=["from the image", "from the logits"])
def test_phew_takes_a_shortcut_half_of_the_time(forward: bool) -> None:
    net = seeded(Residual)
    walks = 10000

    crossings = walker(net, (3, 7, 7))._batch(torch.arange(0, 2 * walks, 2), forward)

    taken = {each.layer.removesuffix(".weight"): set(each.walks.tolist()) for each in crossings}
    assert {walks} == {len(taken["stem"]), len(taken["fc"])}
    assert taken["a1"] == taken["a2"] and taken["b1"] == taken["b2"]
    assert not taken["b1"] & taken["short"] and walks == len(taken["b1"] | taken["short"])
    for branch in ("a1", "b1"):
        assert abs(len(taken[branch]) - walks / 2) < 5 * math.sqrt(walks / 4)


class Joined(nn.Module):
    """Two branches and a constant side by side: channels 0 to 3, 5 to 7 and 4 of what the classifier reads."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 3, 3), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.a(x).mean((2, 3)), self.b(x).mean((2, 3))
        constant = self.fc.bias[:1].view(1, 1).expand(x.shape[0], 1)
        logits: torch.Tensor = self.fc(torch.cat([a, constant, b], dim=1))
        return logits


@pytest.mark.parametrize("forward", [True, False], ids=["from the image", "from the logits"])
def test_phew_goes_through_a_concatenation_to_the_branch_it_came_from(forward: bool) -> None:
    net = seeded(Joined)

    crossings = walker(net, (3, 5, 5))._batch(torch.arange(0, 2000, 2), forward)

    by_walk: dict[str, dict[int, int]] = {}
    for each in crossings:
        by_walk[each.layer[0]] = dict(zip(each.walks.tolist(), each.weights.tolist(), strict=True))
    column = {walk: weight % 8 for walk, weight in by_walk["f"].items()}
    row = {walk: weight // 27 for walk, weight in by_walk["a"].items()}
    row |= {walk: weight // 27 + 5 for walk, weight in by_walk["b"].items()}
    assert column == row
    assert {0, 1, 2, 3, 5, 6, 7} == set(column.values())
    assert (len(column) == 1000) is forward  # from the logits, some come to the constant and leave nothing


def channels(kept: torch.Tensor) -> tuple[set[int], set[int]]:
    """Which inputs and which outputs of a layer have something kept."""
    places = kept.nonzero()
    return set(places[:, 1].tolist()), set(places[:, 0].tolist())


@pytest.mark.parametrize("walks", [1, 2, 9, 40])
def test_phew_keeps_whole_paths(walks: int) -> None:
    net = tiny_net(seed=3)
    scores = Phew().score(net, Mask.dense(net), INPUTS, 0)
    met = {name: score > 1 / (1 + walks) for name, score in scores.items()}

    mask = prune(net, Phew(), INPUTS, Budget(params=sum(int(each.sum()) for each in met.values())))

    assert Mask(met).same_as(mask)
    (first_in, first_out), (second_in, second_out), (last_in, last_out) = map(channels, met.values())
    assert (first_out, second_out) == (second_in, last_in)
    # Walks begin in turn at the next channel of the image and at the next class.
    assert first_in >= set(range(min(3, (walks + 1) // 2))) and last_out >= set(range(min(3, walks // 2)))


def test_phew_ranks_what_it_never_met_below_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phew, "_CROSSINGS_PER_WEIGHT", 0.3)
    net = seeded(Residual)
    mask = random_mask(net, 0.8)
    drawn = walker(net, (3, 7, 7), mask)
    met = drawn.walk()
    inputs = ScoringInputs((3, 7, 7), seed=2)
    monkeypatch.setattr(phew, "_Walker", lambda *_: drawn)
    monkeypatch.setattr(drawn, "walk", lambda: met)

    scores = Phew().score(net, mask, inputs, 0)

    never = {name: met[name].isinf().view(mask[name].shape) & mask[name] for name in met}
    lowest = min(float(scores[name][met[name].isfinite().view(mask[name].shape)].min()) for name in met)
    highest = max(float(scores[name][place].max()) for name, place in never.items() if bool(place.any()))
    assert highest < lowest
    for name in met:
        size = net.get_parameter(name).detach().abs().double() * mask[name]
        torch.testing.assert_close(
            scores[name][never[name]] * (2 + drawn.walks), size[never[name]] / size.sum(), rtol=1e-6, atol=0
        )
        assert not bool(scores[name][~mask[name]].any())
    assert not bool(scores["unused.weight"].any())


def test_phew_keeps_nothing_of_a_walk_that_does_not_arrive() -> None:
    net = tiny_net(seed=3)
    kept = {name: tensor.clone() for name, tensor in Mask.dense(net).items()}
    kept["conv2.weight"][:, 2] = False  # what channel 2 of conv1 says, nobody hears
    kept["fc.weight"][1] = False  # nothing leads to class 1

    met = walker(net, (3, 9, 9), Mask(kept)).walk()

    assert bool(met["conv1.weight"].view(6, 3, 3, 3)[2].isinf().all())
    assert bool(met["conv1.weight"].view(6, 3, 3, 3)[3].isfinite().any())
    assert all(bool(met[name][~kept[name].flatten()].isinf().all()) for name in met)


def test_phew_stops_where_there_is_no_path() -> None:
    net = tiny_net()
    kept = {name: tensor.clone() for name, tensor in Mask.dense(net).items()}
    kept["conv2.weight"][:] = False

    mask = prune(net, Phew(), INPUTS, Budget(0.9))
    scores = Phew().score(net, Mask(kept), INPUTS, 0)

    assert 62 == mask.kept
    assert all(bool((scores[name][kept[name]] > 0).all()) for name in kept)
    assert max(float(score.max()) for score in scores.values()) < 1 / 2


def test_phew_draws_other_walks_in_each_round_and_for_each_seed() -> None:
    net = tiny_net()
    variants = [
        Phew().score(net, Mask.dense(net), ScoringInputs((3, 9, 9), seed=seed), index)["conv2.weight"]
        for seed, index in ((1, 0), (1, 0), (2, 0), (1, 1))
    ]

    assert [True, False, False] == [torch.equal(variants[0], other) for other in variants[1:]]


def test_phew_says_what_it_cannot_follow() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.PixelShuffle(2), nn.Flatten(), nn.Linear(196, 2))

    with pytest.raises(ConfigError, match=r"the paths through '_1' cannot be followed: .*; choose another --method"):
        prune(net, Phew(), INPUTS, Budget(0.5))
