"""Groups of channels: what hangs together, and what is left whole because nobody can tell."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from importlib.metadata import version

import pytest
import torch
from torch import nn

from ntksap_export import models
from ntksap_export.errors import ConfigError
from ntksap_export.pruning.channel_groups import channel_groups
from ntksap_export.pruning.channel_units import ChannelGroup
from ntksap_export.pruning.dependencies import couplings

from ..support.torchvision import torchvision_models
from .channel_nets import NETS, SHAPE, Residual, Wrapped, build, conv

OUTPUT = "it is what the model answers with"


def free(groups: tuple[ChannelGroup, ...]) -> dict[str, tuple[int, int, set[tuple[str, str]]]]:
    """name -> channels, units, members, of the groups that can be pruned."""
    return {
        group.name: (group.channels, group.units, {(member.layer, member.side) for member in group.members})
        for group in groups
        if group.reason is None
    }


def reasons(groups: tuple[ChannelGroup, ...]) -> dict[str, str]:
    return {group.name: group.reason for group in groups if group.reason is not None}


def member(
    groups: tuple[ChannelGroup, ...], group: str, layer: str, side: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    (found,) = [
        (member.positions, member.units)
        for candidate in groups
        if candidate.name == group
        for member in candidate.members
        if (member.layer, member.side) == (layer, side)
    ]
    return found


def test_a_shortcut_ties_layers_together() -> None:
    groups = channel_groups(build(Residual), SHAPE)

    assert {
        "stem": (
            8,
            8,
            {*(("stem", "out"), ("stem_bn", "out"), ("a2", "out")), *(("a1", "in"), ("b1", "in"), ("short", "in"))},
        ),
        "a1": (4, 4, {("a1", "out"), ("a_bn", "out"), ("a2", "in")}),
        "b1": (6, 6, {("b1", "out"), ("b2", "in")}),
        "b2": (10, 10, {("b2", "out"), ("short", "out"), ("short_bn", "out"), ("fc", "in")}),
    } == free(groups)
    assert {"fc": OUTPUT} == reasons(groups)


def test_a_concatenation_sets_groups_side_by_side() -> None:
    groups = channel_groups(build(NETS["concat"]), SHAPE)

    behind = {("bn", "out"), ("both", "out"), ("both", "in"), ("last", "in")}
    assert {
        "a": (4, 4, {("a", "out"), *behind}),
        "b": (6, 6, {("b", "out"), *behind}),
        "last": (4, 4, {("last", "out"), ("fc", "in")}),
    } == free(groups)
    assert ((4, 5, 6, 7, 8, 9), (0, 1, 2, 3, 4, 5)) == member(groups, "b", "last", "in")


def test_a_flattened_channel_is_many_columns() -> None:
    groups = channel_groups(build(NETS["flat"]), SHAPE)

    positions, units = member(groups, "features.4", "hidden", "in")
    assert tuple(range(80)) == positions
    assert tuple(position // 16 for position in positions) == units
    assert (6, 6, {("features.0", "out"), ("features.1", "out"), ("features.2", "out"), ("features.4", "in")}) == free(
        groups
    )["features.0"]


def test_a_depthwise_convolution_follows_what_it_reads() -> None:
    groups = channel_groups(build(NETS["depthwise"]), SHAPE)

    layers = {name for name, _ in free(groups)["expand"][2]}
    assert {"expand", "bn1", "depthwise", "bn2", "squeeze", "excite", "project"} == layers
    assert {"stem", "expand", "squeeze"} == set(free(groups))


def test_a_grouped_convolution_gives_one_channel_of_each_group() -> None:
    groups = channel_groups(build(NETS["grouped"]), SHAPE)

    assert (8, 2) == free(groups)["stem"][:2]
    assert ((0, 1, 2, 3, 4, 5, 6, 7), (0, 1) * 4) == member(groups, "stem", "grouped", "in")
    assert (12, 3) == free(groups)["grouped"][:2]
    assert (tuple(range(12)), (0, 1, 2) * 4) == member(groups, "grouped", "last", "in")


@pytest.mark.parametrize(
    ("name", "count"), [("resnet20", 12), ("resnet18", 12), ("vgg16_bn", 13), ("resnet50", 37)], ids=str
)
def test_our_models_have_no_group_that_is_left_whole_but_the_classifiers(name: str, count: int) -> None:
    model = models.build(name, num_classes=10, stem="cifar" if models.info(name).stems else "auto")

    groups = channel_groups(model, (3, 32, 32))

    assert count == len(free(groups))
    assert {"fc": OUTPUT} == reasons(groups)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["mobilenet_v2", "mobilenet_v3_small", "resnext50_32x4d", "squeezenet1_1", "regnet_y_400mf", "densenet121"]
)
def test_torchvisions_models_can_be_followed(name: str) -> None:
    groups = channel_groups(getattr(torchvision_models(), name)(), (3, 64, 64))

    assert [OUTPUT] == list(reasons(groups).values())


class Channels(nn.Module):
    """A scale for each channel, as a bare parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


def shuffle(x: torch.Tensor) -> torch.Tensor:
    return x[:, [1, 2, 3, 4, 5, 0]]


def halves(x: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=1)
    return first * second.sigmoid()


def fixed_width(x: torch.Tensor) -> torch.Tensor:
    return x.view(-1, 6, 8, 8)


def minus_mean(x: torch.Tensor) -> torch.Tensor:
    return x - x.mean(1, keepdim=True)


@pytest.mark.parametrize(
    ("middle", "width", "reason"),
    [
        (lambda: nn.GroupNorm(1, 6), 6, r"its channels run through 'middle' \(GroupNorm\), which cannot be sliced"),
        (lambda: nn.ConvTranspose2d(6, 6, 1), 6, r"run through 'middle' \(ConvTranspose2d\), which cannot be sliced"),
        (Channels, 6, "its channels meet the parameter 'middle.scale' of no layer"),
        (lambda: shuffle, 6, "its channels cannot be followed through Index$"),
        (lambda: minus_mean, 6, "its channels cannot be followed through "),
        (lambda: halves, 3, "its channels cannot be followed through Split$"),
        (lambda: fixed_width, 6, "its channels cannot be followed through (View|Reshape)$"),
        (
            lambda: nn.utils.parametrizations.weight_norm(conv(6, 6)),
            6,
            r"'middle' \(Parametrized\w+\), which has tensors of its own \(parametrizations.weight.original0\)",
        ),
    ],
)
def test_what_cannot_be_followed_is_left_whole_and_says_so(
    middle: Callable[[], Callable[[torch.Tensor], torch.Tensor]], width: int, reason: str
) -> None:
    groups = channel_groups(build(lambda: Wrapped(middle(), width)), SHAPE)

    assert {"last"} == set(free(groups))
    stem = [group for group in groups if group.name.startswith("stem")]
    assert stem
    for group in stem:
        assert group.reason is not None
        with pytest.raises(AssertionError, match=reason):
            raise AssertionError(group.reason)


def test_a_layer_that_answers_directly_and_one_that_never_runs() -> None:
    class Spare(Wrapped):
        def __init__(self) -> None:
            super().__init__(nn.Identity())
            self.spare = nn.Linear(5, 5)

    left = reasons(channel_groups(build(Spare), SHAPE))

    assert {"fc": OUTPUT, "spare": "the trace did not meet it: it does not run, or not as a layer"} == left


def test_layers_that_share_a_weight_are_left_whole() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.a, self.b, self.fc = conv(3, 6), conv(6, 6), conv(6, 6), nn.Linear(6, 2)
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.fc(self.b(self.a(self.stem(x)).relu()).mean((2, 3)))
            return logits

    left = reasons(channel_groups(build(Tied), SHAPE))

    assert {"stem", "a", "b", "fc"} == set(left)
    assert "'a' and 'b' share parameters" == left["stem"]


def test_a_width_of_one_cannot_shrink() -> None:
    class Narrow(Wrapped):
        def __init__(self) -> None:
            super().__init__(nn.Sequential(conv(6, 1), conv(1, 6)))

    left = reasons(channel_groups(build(Narrow), SHAPE))

    assert "all its channels could only go together" == left["middle.0"]


class Unplugged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            hidden: torch.Tensor = self.conv(x)
        return hidden


class Broken(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise KeyError("no such thing")


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.conv(self.conv(x).relu())
        return hidden


def interleave(x: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=1)
    x = torch.cat([first, second.relu()], 1)
    return x.view(-1, 2, 3, 8, 8).transpose(1, 2).reshape(-1, 6, 8, 8)


@pytest.mark.parametrize(
    ("middle", "message"),
    [
        (Unplugged, "the channels of 'middle.conv' cannot be followed: it runs without gradients"),
        (Twice, r"the channels of 'middle.conv' cannot be followed: it runs 2 times in one pass"),
        (Broken, r"the model cannot be traced for the channel pattern: 'middle' \(Broken\): 'no such thing'"),
        (
            lambda: interleave,
            r"torch-pruning fails on one of its operators .*Split, Transpose, .*View \(TypeError",
        ),
    ],
)
def test_a_model_that_cannot_be_traced_is_refused_by_name(
    middle: Callable[[], Callable[[torch.Tensor], torch.Tensor]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        channel_groups(build(lambda: Wrapped(middle())), SHAPE)


def test_a_detached_output_is_refused() -> None:
    class Detached(Wrapped):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).detach()

    with pytest.raises(ConfigError, match="channels of Detached cannot be followed: its output is detached"):
        channel_groups(build(lambda: Detached(nn.Identity())), SHAPE)


def test_the_model_and_the_random_state_stay() -> None:
    model = build(NETS["depthwise"]).train().requires_grad_(False)
    model.bn1.eval()
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    states = torch.get_rng_state().tolist(), random.getstate()

    with torch.no_grad():
        groups = channel_groups(model, SHAPE)

    assert groups == channel_groups(build(NETS["depthwise"]), SHAPE)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert modes == [module.training for module in model.modules()]
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert states == (torch.get_rng_state().tolist(), random.getstate())


def test_what_torch_pruning_is_relied_upon_for() -> None:
    """The contract of the adapter: if one of these changes, `dependencies.py` has to be looked at again."""
    found = {coupling.root: coupling for coupling in couplings(build(NETS["flat"]).float(), SHAPE)}

    assert {"features.0", "features.4", "hidden", "fc"} == set(found)
    assert [("features.4", "out"), ("hidden", "in")] == [(r.layer, r.side) for r in found["features.4"].reaches]
    assert tuple(at // 16 for at in range(80)) == found["features.4"].reaches[1].channels
    assert found["fc"].is_output
    assert not found["hidden"].is_output
    assert (1, 6) <= tuple(int(part) for part in version("torch-pruning").split(".")[:2])
