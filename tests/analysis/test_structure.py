"""Live weights and counts of paths beside a plain enumeration of every path of tiny networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise, product

import pytest
import torch
from torch import nn
from torch.nn import functional

from ntksap_export import models
from ntksap_export.analysis.paths import live_weights, log10_paths
from ntksap_export.analysis.structure import mask_structure
from ntksap_export.errors import CheckpointError, ConfigError
from ntksap_export.masks import Mask

from ..pruning.channel_nets import NETS, SHAPE, build
from ..support.nets import random_mask

Weight = tuple[str, tuple[int, ...]]


class Unit:
    """A number of a tensor: the units it is made from, each with the weight on the way, if any."""

    def __init__(self, *sources: tuple[Unit, Weight | None]) -> None:
        self.sources = list(sources)


Units = dict[tuple[int, ...], Unit]  # by channel, row, column
IMAGE = (1, 3, 3)


def paths_to(unit: Unit, image: frozenset[Unit]) -> Iterator[tuple[Weight, ...]]:
    if unit in image:
        yield ()
    for source, weight in unit.sources:
        for path in paths_to(source, image):
            yield path if weight is None else (*path, weight)


class Enumerated:
    """Writes a network down unit by unit."""

    def __init__(self, mask: Mask) -> None:
        self.mask = mask
        self.image: Units = {place: Unit() for place in product(*map(range, IMAGE))}

    def conv(self, name: str, x: Units, groups: int = 1, stride: int = 1, padding: int = 0) -> Units:
        kept = self.mask[f"{name}.weight"]
        outputs, inputs, height, width = kept.shape
        size = max(place[1] for place in x) + 1
        places = range((size + 2 * padding - height) // stride + 1)
        found: Units = {}
        for o, row, column in product(range(outputs), places, places):
            unit = found[o, row, column] = Unit()
            for i, y, z in product(range(inputs), range(height), range(width)):
                channel = o // (outputs // groups) * inputs + i
                source = x.get((channel, row * stride + y - padding, column * stride + z - padding))
                if source is not None and bool(kept[o, i, y, z]):
                    unit.sources.append((source, (f"{name}.weight", (o, i, y, z))))
        return found

    def pool(self, x: Units, kernel: int, stride: int, padding: int = 0) -> Units:
        channels, size = (max(place[axis] for place in x) + 1 for axis in (0, 1))
        places = range((size + 2 * padding - kernel) // stride + 1)
        found: Units = {}
        for c, row, column in product(range(channels), places, places):
            window = product(range(kernel), range(kernel))
            sources = [x.get((c, row * stride + y - padding, column * stride + z - padding)) for y, z in window]
            found[c, row, column] = Unit(*[(source, None) for source in sources if source is not None])
        return found

    def linear(self, name: str, x: list[Unit]) -> list[Unit]:
        kept = self.mask[f"{name}.weight"]
        return [
            Unit(*[(unit, (f"{name}.weight", (o, i))) for i, unit in enumerate(x) if bool(kept[o, i])])
            for o in range(len(kept))
        ]

    @staticmethod
    def add(x: Units, y: Units) -> Units:
        return {place: Unit((x[place], None), (y[place], None)) for place in x}

    @staticmethod
    def flat(x: Units) -> list[Unit]:
        return [x[place] for place in sorted(x)]

    @staticmethod
    def mean(x: Units) -> list[Unit]:
        channels = sorted({place[0] for place in x})
        return [Unit(*[(unit, None) for place, unit in x.items() if place[0] == channel]) for channel in channels]


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2)
        self.a, self.b = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 1)
        self.down, self.short = nn.Conv2d(2, 3, 2, stride=2), nn.Conv2d(2, 3, 1, stride=2)
        self.fc = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn(self.stem(x)).relu_()
        y = self.b(functional.gelu(self.a(x)))
        y += x
        y = torch.relu(self.down(y) + self.short(y))
        logits: torch.Tensor = self.fc(y.mean((2, 3)))
        return logits

    @staticmethod
    def units(of: Enumerated) -> list[Unit]:
        x = of.conv("stem", of.image)
        x = of.add(of.conv("b", of.conv("a", x, padding=1)), x)
        return of.linear("fc", of.mean(of.add(of.conv("down", x, stride=2), of.conv("short", x, stride=2))))


class Concatenated(nn.Module):
    """Groups, depthwise, concatenation with the input, and zeros beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.depthwise = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 3, padding=1, groups=2)
        self.grouped, self.fc = nn.Conv2d(4, 4, 2, groups=2), nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.depthwise(self.expand(x) * 2 + 1)
        y = torch.cat([y, x, torch.zeros_like(x)], 1)
        logits: torch.Tensor = self.fc(self.grouped(y).flatten(1))
        return logits

    @staticmethod
    def units(of: Enumerated) -> list[Unit]:
        y = of.conv("depthwise", of.conv("expand", of.image), groups=2, padding=1)
        both = dict(y)
        for (_, row, column), unit in of.image.items():
            both[2, row, column], both[3, row, column] = unit, Unit()
        return of.linear("fc", of.flat(of.conv("grouped", both, groups=2)))


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(1, 2, 2, padding=1), nn.Conv2d(2, 2, 2), nn.Linear(2, 2)
        self.most, self.middle = nn.MaxPool2d(2, stride=1), nn.AvgPool2d(3, stride=2, padding=1)
        self.whole = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.b(self.middle(self.most(torch.tanh(self.a(x)))))
        logits: torch.Tensor = self.fc(torch.flatten(self.whole(x), 1))
        return logits

    @staticmethod
    def units(of: Enumerated) -> list[Unit]:
        x = of.pool(of.pool(of.conv("a", of.image, padding=1), 2, 1), 3, 2, padding=1)
        return of.linear("fc", of.mean(of.conv("b", x)))


class Gated(nn.Module):
    """Squeeze-and-excite."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.squeeze, self.excite = nn.Conv2d(1, 3, 2), nn.Conv2d(3, 2, 1), nn.Conv2d(2, 3, 1)
        self.fc = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.silu(self.conv(x))
        x = x * torch.sigmoid(self.excite(self.squeeze(x.mean((2, 3), keepdim=True))))
        logits: torch.Tensor = self.fc(functional.adaptive_avg_pool2d(x, (1, 1)).flatten(1))
        return logits

    @staticmethod
    def units(of: Enumerated) -> list[Unit]:
        x = of.conv("conv", of.image)
        means: Units = {(channel, 0, 0): unit for channel, unit in enumerate(of.mean(x))}
        gate = of.conv("excite", of.conv("squeeze", means))
        return of.linear("fc", of.mean(of.add(x, {place: gate[place[0], 0, 0] for place in x})))


TINY: dict[str, type[nn.Module]] = {
    "residual": Residual,
    "concatenated": Concatenated,
    "pooled": Pooled,
    "gated": Gated,
}


@pytest.mark.parametrize("density", [1.0, 0.7, 0.4])
@pytest.mark.parametrize("kind", TINY)
def test_live_weights_and_paths_are_those_that_an_enumeration_finds(kind: str, density: float) -> None:
    net = TINY[kind]()
    mask = random_mask(net, density, seed=4) if density < 1 else Mask.dense(net)
    of = Enumerated(mask)
    image = frozenset(of.image.values())
    paths = [path for unit in net.units(of) for path in paths_to(unit, image)]  # type: ignore[operator]
    met = {weight for path in paths for weight in path}

    live = live_weights(net, mask, IMAGE)

    found = {(name, tuple(place)) for name, kept in live.items() for place in kept.nonzero().tolist()}
    assert met == found
    assert len(paths) > 10
    assert math.log10(len(paths)) == pytest.approx(log10_paths(net, mask, IMAGE), abs=1e-12)


def reach(net: nn.Module, mask: Mask, places: list[Weight], shape: tuple[int, ...]) -> list[bool]:
    """Whether the logits change with each weight, where biases are 0 and all else is positive: no ReLU is off."""
    generator = torch.Generator().manual_seed(0)
    for name, buffer in net.named_buffers():
        if name.endswith("running_mean"):
            buffer.zero_()
    for name, parameter in net.named_parameters():
        parameter.data = torch.rand(parameter.shape, generator=generator, dtype=torch.float64) / 4 + 0.05
        if name.endswith("bias"):
            parameter.data.zero_()
    mask.apply_(net)
    image = torch.rand(1, *shape, generator=generator, dtype=torch.float64) + 0.1
    before = net(image)
    changed = []
    for name, place in places:
        weight = net.get_parameter(name)
        weight.data[place] += 0.5
        changed.append(bool((net(image) - before).abs().max() > 1e-12))
        weight.data[place] -= 0.5
    return changed


@pytest.mark.parametrize("kind", ["residual", "concat", "grouped", "depthwise"])
def test_a_weight_is_live_where_the_logits_of_a_positive_network_change_with_it(kind: str) -> None:
    net = build(NETS[kind])
    mask = random_mask(net, 0.15, seed=2)
    live = live_weights(net, mask, SHAPE)
    places = [(name, tuple(place)) for name, kept in mask.items() for place in kept.nonzero().tolist()]

    changed = reach(net, mask, places, SHAPE)

    alive = [bool(live[name][place]) for name, place in places]
    if kind == "depthwise":  # the gate of a channel that is 0 counts: with a bias that channel would speak
        assert all(one or not other for one, other in zip(alive, changed, strict=True))
    else:
        assert changed == alive
    assert {True, False} == set(changed)


def chain(*hidden: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(hidden):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers)


def test_no_depth_overflows_or_vanishes() -> None:
    net = chain(*[12] * 350)
    mask = Mask.dense(net)
    last = list(mask)[-1]
    dead = Mask({**mask, last: torch.zeros_like(mask[last])})
    one = Mask({name: torch.eye(12, dtype=torch.bool) & (torch.arange(12) == 0) for name in mask})

    assert 350 * math.log10(12) == pytest.approx(log10_paths(net, mask, (3, 2, 2)))
    assert mask.same_as(live_weights(net, mask, (3, 2, 2)))
    assert 0.0 == pytest.approx(log10_paths(net, one, (3, 2, 2)))
    assert one.same_as(live_weights(net, one, (3, 2, 2)))
    assert -math.inf == log10_paths(net, dead, (3, 2, 2))
    assert 0 == live_weights(net, dead, (3, 2, 2)).kept


def test_of_a_kernel_that_only_meets_padding_the_middle_is_live() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Flatten(), nn.Linear(3, 2))

    live = live_weights(net, Mask.dense(net), (2, 1, 1))["0.weight"]

    expected = torch.zeros(3, 2, 3, 3, dtype=torch.bool)
    expected[:, :, 1, 1] = True
    assert torch.equal(expected, live)


def test_the_structure_sums_up() -> None:
    net = chain(3, 4, 2)
    first = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 0]]).bool()  # third unit: nothing leads there
    second = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0]]).bool()  # nothing leads on from the second and the fourth
    mask = Mask({"1.weight": first, "3.weight": second})

    found = mask_structure(net, mask, (3, 1, 1))

    assert (20, 6, 3, 0.3, 0.15) == (found.weights, found.kept, found.live, found.density, found.effective_density)
    assert (6, 2) == (found.channels, found.live_channels)
    assert [(4, 2, 4, 1), (2, 1, 2, 1)] == [
        (layer.kept, layer.live, layer.channels, layer.live_channels) for layer in found.layers
    ]
    assert math.log10(2) == pytest.approx(found.log10_paths)
    # ERK keeps 7 c and 6 c weights of 12 and 8, together 6.
    assert [7 * 6 / 13 / 12, 6 * 6 / 13 / 8] == pytest.approx([layer.erk_density for layer in found.layers])
    assert 20 == found.to_json()["weights"]
    assert "3.weight" == found.to_json()["layers"][1]["name"]


def test_no_path_is_none_in_json() -> None:
    net = chain(3, 2)
    mask = Mask({"1.weight": torch.zeros(2, 3, dtype=torch.bool)})

    assert mask_structure(net, mask, (3, 1, 1)).to_json()["log10_paths"] is None


class Attention(nn.Module):
    """One head over the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.fc = (nn.Linear(4, 4) for _ in range(4))
        self.norm = nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(x.flatten(1, 2))
        x = x + functional.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x))
        logits: torch.Tensor = self.fc(x[:, 0])
        return logits


@pytest.mark.parametrize("dead", ["q", "k", "v"])
def test_attention_passes_by_queries_keys_and_values(dead: str) -> None:
    net = Attention()
    mask = Mask.dense(net)
    gone = {f"{name}.weight" for name in ("q", "k", "v") if name != dead}
    only = Mask({name: torch.zeros_like(kept) if name in gone else kept for name, kept in mask.items()})

    assert only.same_as(live_weights(net, only, (1, 3, 4)))


@pytest.mark.parametrize("name", ["resnet20", "lenet5", "resnet18", "mobilenet_v2"])
def test_a_dense_network_is_live_where_it_sees_more_than_padding(name: str) -> None:
    net = models.build(name, num_classes=10, seed=0)
    mask = Mask.dense(net)

    live = live_weights(net, mask, (3, 32, 32))

    at_one_position = [layer for layer in mask if live[layer].sum() < mask[layer].sum()]
    assert all(live[layer][:, :, 1, 1].all() for layer in at_one_position)
    assert (name in ("resnet18", "mobilenet_v2")) == bool(at_one_position)


class Calls(nn.Module):
    def __init__(self, then: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.fc, self.then = nn.Linear(4, 4), then

    def forward(self, x: torch.Tensor) -> object:
        return self.then(self.fc(x.flatten(1)))


REFUSED: dict[str, tuple[Callable[[torch.Tensor], object], str]] = {
    "unknown": (lambda y: torch.linalg.inv(y.view(1, 2, 2)), r"through linalg_inv\(\)"),
    "decides by values": (lambda y: y if bool((y > 0).all()) else -y, r"through gt\(\)"),
    "two answers": (lambda y: (y, y), "one tensor of logits .* got tuple"),
    "constant": (lambda _: torch.ones(1, 3), "depends on the image; got Tensor"),
    "a bug": (lambda y: {}[y.shape], "cannot be followed from an image of shape"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_followed_is_named(case: str) -> None:
    then, reason = REFUSED[case]
    net = Calls(then)

    with pytest.raises(ConfigError, match=reason):
        live_weights(net, Mask.dense(net), (1, 2, 2))


def test_a_mask_of_another_model() -> None:
    with pytest.raises(CheckpointError, match=r"the mask has 'fc\.weight'"):
        mask_structure(chain(4, 2), Mask.dense(Calls(lambda y: y)), (1, 2, 2))
