"""Channel plans: slim and masked models answer alike, and a plan survives its JSON form."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ntksap_export import models
from ntksap_export.errors import CheckpointError
from ntksap_export.masks import Mask, layer_costs
from ntksap_export.pruning import ChannelPlan
from ntksap_export.pruning.channel_groups import channel_groups
from ntksap_export.pruning.channel_plan import GroupSummary, LayerChannels
from ntksap_export.pruning.channel_slices import Kept, as_ranges
from ntksap_export.pruning.channel_units import ChannelGroup, plan_of

from .channel_nets import NETS, SHAPE, Flat, Residual, build, conv, images

FOUND: Mapping[str, tuple[ChannelGroup, ...]] = {name: channel_groups(build(NETS[name]), SHAPE) for name in NETS}
SLIM = {"layers": {"a1": {"out": {"of": 4, "kept": "0,2-3"}}, "a2": {"in": {"of": 4, "kept": "0,2-3"}}}, "groups": []}


def every_other(groups: tuple[ChannelGroup, ...]) -> ChannelPlan:
    """Half of every group that can be pruned, rounded up."""
    return plan_of(groups, [range(group.units)[:: 1 if group.reason else 2] for group in groups])


def silence_(model: nn.Module, plan: ChannelPlan) -> None:
    """Set everything about the removed channels to zero: weights, biases, gammas and betas."""
    plan.mask(model).apply_(model)
    with torch.no_grad():
        for name, sides in plan.layers.items():
            module = model.get_submodule(name)
            if sides.out is not None:
                gone = [channel for channel in range(sides.out.of) if channel not in sides.out.channels]
                for tensor in (getattr(module, "bias", None), module.weight if isinstance(module, _NormBase) else None):
                    if tensor is not None:
                        tensor[gone] = 0.0


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_slim_model_answers_as_the_dense_one_without_those_channels(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(NETS)))
    model, groups = build(NETS[name]), FOUND[name]
    kept = [
        data.draw(st.sets(st.integers(0, group.units - 1), min_size=1)) if group.reason is None else range(group.units)
        for group in groups
    ]
    training = data.draw(st.booleans())
    plan = plan_of(groups, [sorted(units) for units in kept])
    dense = copy.deepcopy(model).train(training)
    plan.mask(dense).apply_(dense)
    silent = copy.deepcopy(model).train(training)
    silence_(silent, plan)
    slim = plan.apply(model).train(training)

    expected = dense(images())
    torch.testing.assert_close(expected, slim(images()), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(expected, silent(images()), rtol=1e-10, atol=1e-12)
    assert plan.mask(model).kept == Mask.dense(slim).total
    assert sum(cost.weights for cost in layer_costs(slim, SHAPE)) == plan.mask(model).kept


@pytest.mark.parametrize("name", NETS)
def test_gradients_of_the_slim_model_are_those_of_the_kept_weights(name: str) -> None:
    model = build(NETS[name])
    plan = every_other(FOUND[name])
    dense, slim, mask = copy.deepcopy(model), plan.apply(model), plan.mask(model)
    mask.apply_(dense)
    for net in (dense, slim):
        net(images()).square().sum().backward()

    small = dict(slim.named_parameters())
    for weight, kept in mask.items():
        expected = dict(dense.named_parameters())[weight].grad[kept]  # type: ignore[index]
        torch.testing.assert_close(expected, small[weight].grad.flatten())  # type: ignore[union-attr]


def test_a_slim_model_is_plain_and_keeps_what_it_was() -> None:
    model = build(Residual).half().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.stem.weight.requires_grad_(False)
    model.train()
    model.stem_bn.eval()
    before = copy.deepcopy(model.state_dict())

    slim = every_other(FOUND["residual"]).apply(model)

    assert {"stem.weight"} == {name for name, value in slim.named_parameters() if not value.requires_grad}
    assert {torch.float16} == {value.dtype for value in slim.parameters()}
    assert slim.a2.weight.is_contiguous(memory_format=torch.channels_last)
    assert [name for name, module in model.named_modules() if module.training] == [
        name for name, module in slim.named_modules() if module.training
    ]
    assert type(slim) is Residual
    assert "Conv2d(3, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))" == str(slim.stem)
    assert (4, {(4,)}) == (
        slim.stem_bn.num_features,
        {tuple(t.shape) for t in slim.stem_bn.state_dict().values()} - {()},
    )
    assert "Linear(in_features=5, out_features=2, bias=True)" == str(slim.fc)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert list(before) == list(slim.state_dict())
    assert torch.equal(before["stem.weight"][::2], slim.stem.weight)
    assert slim.stem.weight.data_ptr() != model.stem.weight.data_ptr()


def test_a_depthwise_and_a_grouped_convolution_shrink_as_a_whole() -> None:
    depthwise = every_other(FOUND["depthwise"]).apply(build(NETS["depthwise"])).depthwise
    grouped = every_other(FOUND["grouped"]).apply(build(NETS["grouped"])).grouped

    assert (6, 6, 6, (6, 1, 3, 3)) == (*channels(depthwise), tuple(depthwise.weight.shape))
    assert (4, 8, 4, (8, 1, 3, 3)) == (*channels(grouped), tuple(grouped.weight.shape))


def channels(layer: nn.Conv2d) -> tuple[int, int, int]:
    return layer.in_channels, layer.out_channels, layer.groups


def test_a_plan_that_removes_nothing_is_empty() -> None:
    groups = FOUND["residual"]
    plan = plan_of(groups, [range(group.units) for group in groups])

    assert {} == plan.layers
    assert plan.mask(build(Residual)).same_as(Mask.dense(build(Residual)))


@pytest.mark.parametrize(
    "name", ["resnet20", "resnet18", "vgg16_bn", pytest.param("resnet50", marks=pytest.mark.slow)], ids=str
)
def test_a_plan_in_json_builds_the_slim_model_again_from_its_name(name: str) -> None:
    def fresh() -> nn.Module:
        return models.build(name, num_classes=10, stem="cifar" if models.info(name).stems else "auto")

    plan = every_other(channel_groups(fresh(), (3, 32, 32)))
    slim = plan.apply(fresh()).eval()

    again = ChannelPlan.from_json(json.loads(json.dumps(plan.to_json()))).apply(fresh())

    assert (2, 10) == slim(torch.ones(2, 3, 32, 32)).shape
    expected = {key: value.shape for key, value in slim.state_dict().items()}
    assert expected == {key: value.shape for key, value in again.state_dict().items()}
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in slim.state_dict().items())


@pytest.mark.parametrize("name", NETS)
def test_json_gives_back_the_same_plan(name: str) -> None:
    plan = every_other(FOUND[name])

    assert plan == ChannelPlan.from_json(json.loads(json.dumps(plan.to_json())))


def test_json_is_short_and_readable() -> None:
    plan = ChannelPlan(
        {"conv": LayerChannels(out=Kept(9, (0, 1, 2, 5))), "fc": LayerChannels(into=Kept(9, (0, 1, 2, 5)))},
        (GroupSummary("conv", 9, 4), GroupSummary("fc", 2, 2, "because")),
    )

    assert {
        "layers": {"conv": {"out": {"of": 9, "kept": "0-2,5"}}, "fc": {"in": {"of": 9, "kept": "0-2,5"}}},
        "groups": [
            {"layer": "conv", "channels": 9, "kept": 4, "reason": None},
            {"layer": "fc", "channels": 2, "kept": 2, "reason": "because"},
        ],
    } == plan.to_json()
    assert {"channels": 11, "kept": 6, "groups": plan.to_json()["groups"]} == plan.summary()


@given(st.sets(st.integers(0, 40)))
def test_ranges_name_each_number_once(numbers: set[int]) -> None:
    text = as_ranges(sorted(numbers))

    read = [
        number
        for run in text.split(",")
        if run
        for number in range(int(run.split("-")[0]), int(run.split("-")[-1]) + 1)
    ]
    assert sorted(numbers) == read


def side(**changes: Any) -> dict[str, Any]:
    return {"layers": {"a1": {"out": {"of": 4, "kept": "0-1", **changes}}}, "groups": []}


def group(**changes: Any) -> dict[str, Any]:
    return {"layers": {}, "groups": [{"layer": "a1", "channels": 4, "kept": 2, "reason": None, **changes}]}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (None, "a channel plan must have exactly the keys groups, layers; got None"),
        ([], "a channel plan must have exactly the keys groups, layers"),
        ({"layers": {}}, "a channel plan must have exactly the keys groups, layers"),
        ({"layers": {}, "groups": [], "more": 1}, "a channel plan must have exactly the keys"),
        ({"layers": [], "groups": []}, "a mapping of layers and a list of groups"),
        ({"layers": {}, "groups": {}}, "a mapping of layers and a list of groups"),
        ({"layers": {"a1": None}, "groups": []}, "has 'out', 'in' or both for layer 'a1'; got None"),
        ({"layers": {"a1": {}}, "groups": []}, "has 'out', 'in' or both for layer 'a1'"),
        ({"layers": {"a1": {"up": {}}}, "groups": []}, "has 'out', 'in' or both for layer 'a1'"),
        ({"layers": {"a1": {"out": []}}, "groups": []}, "a side of layer 'a1' must have exactly the keys kept, of"),
        (side(of="4"), "a side of layer 'a1' has a number of channels"),
        (side(of=True), "a side of layer 'a1' has a number of channels"),
        (side(of=0), "a side of layer 'a1' has a number of channels"),
        (side(kept=[0, 1]), "ranges as in '0-3,5'; got"),
        (side(kept=""), "layer 'a1' of a channel plan: kept channels must be ranges below 4"),
        (side(kept="0-4"), "kept channels must be ranges below 4 as in '0-3,5'; got '0-4'"),
        (side(kept="-1"), "kept channels must be ranges below 4"),
        (side(kept="0-"), "kept channels must be ranges below 4"),
        (side(kept="1-0"), "kept channels must be ascending numbers from 0 to 3, at least one; got none"),
        (side(kept="2,1"), "kept channels must be ascending numbers from 0 to 3, at least one; got 2,1"),
        (side(kept="1,1"), "kept channels must be ascending"),
        (side(kept="0-3,0-3"), "kept channels must be ascending"),
        (side(kept="0,\u0661"), r"must be ranges below 4 as in '0-3,5'; got '0,\\u0661'"),
        (side(kept="99999999999999999999"), "kept channels must be ranges below 4"),
        (group(kept=0), "a group of a channel plan has a layer, 1 <= kept <= channels"),
        (group(kept=5), "a group of a channel plan has"),
        (group(kept=True), "a group of a channel plan has"),
        (group(layer=3), "a group of a channel plan has"),
        (group(reason=3), "a group of a channel plan has"),
        (group(more=3), "a group of a channel plan must have exactly the keys"),
    ],
)
def test_a_damaged_plan_is_refused_in_one_line(document: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as refused:
        ChannelPlan.from_json(document)

    assert "\n" not in str(refused.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-3, 9) | st.sampled_from(["0", "0-3", "out", "x", "3-1,,", "1-2-3"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["layers", "groups", "out", "in", "of", "kept", "a1", "reason"]), inner)
        ),
        max_leaves=12,
    )
)
@settings(max_examples=300, deadline=None)
def test_garbage_is_refused_and_never_a_crash(document: Any) -> None:
    for candidate in (document, {"layers": {"a1": document}, "groups": []}, {"layers": {}, "groups": [document]}):
        try:
            ChannelPlan.from_json(candidate).mask(build(Residual))
        except CheckpointError as error:
            assert "\n" not in str(error)


def tied() -> nn.Module:
    net = Residual()
    net.a1 = conv(8, 4)
    net.a2 = conv(4, 8)
    net.a2.bias = net.stem.bias
    return net


def plan(name: str, out: Kept | None = None, into: Kept | None = None) -> ChannelPlan:
    return ChannelPlan({name: LayerChannels(out, into)})


@pytest.mark.parametrize(
    ("make", "wrong", "message"),
    [
        (Residual, plan("a9", Kept(4, (0,))), "the plan has 'a9', which the model has not; was it made for another"),
        (Residual, plan("", Kept(4, (0,))), "the plan slices '', but channels of a Residual cannot be removed"),
        (Residual, plan("a1", Kept(5, (0,))), "does not fit 'a1': it has 4 output channels, the plan knows 5"),
        (Residual, plan("a1", None, Kept(9, (0,))), "does not fit 'a1': it has 8 input channels, the plan knows 9"),
        (Residual, plan("a_bn", None, Kept(4, (0,))), "'a_bn': its input channels are its output channels"),
        (NETS["depthwise"], plan("depthwise", None, Kept(12, (0,))), "its input channels are its output channels"),
        (NETS["grouped"], plan("grouped", Kept(12, (0, 1))), "its 4 groups do not keep equally many output channels"),
        (NETS["grouped"], plan("grouped", None, Kept(8, (0, 2, 4, 7))), "4 groups do not keep the same input channels"),
        (tied, plan("stem", Kept(8, (0,))), "'stem' and 'a2' share parameters; neither can lose channels"),
        (Flat, plan("features.5", Kept(1, (0,))), None),
    ],
)
def test_a_plan_of_another_model_is_refused(
    make: Callable[[], nn.Module], wrong: ChannelPlan, message: str | None
) -> None:
    model = build(make)

    if message is None:
        assert wrong.mask(model).same_as(Mask.dense(model))
        return
    for use in (wrong.apply, wrong.mask):
        with pytest.raises(CheckpointError, match=message):
            use(model)
