"""Scope `layer` with channels: the same share of every group; and filters that are judged by their own rows alone."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask, layer_costs
from ntksap_export.pruning import Budget, ChannelPlan, ScoringInputs, check_channels, make_scorer, prune, prune_channels

from .channel_nets import NETS, SHAPE, build
from .test_structured import scoring_inputs

MLP_SHAPE = (1, 4, 4)


def mlp(widths: tuple[int, ...] = (10, 10, 7)) -> nn.Module:
    sizes = (16, *widths, 3)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(4)
        layers = [nn.Linear(into, out) for into, out in pairwise(sizes)]
    return nn.Sequential(nn.Flatten(), *layers)


def residual() -> nn.Module:
    return build(NETS["residual"]).float()


def chosen(model: nn.Module, shape: tuple[int, int, int], budget: Budget, **options: object) -> ChannelPlan:
    given = {"scope": "layer", "round_to": 1, **options}
    return prune_channels(model, make_scorer("l1"), scoring_inputs(shape), budget, **given)  # type: ignore[arg-type]


def kept_rows(plan: ChannelPlan, layer: str) -> list[int]:
    sides = plan.layers[layer]
    assert sides.out is not None
    return list(sides.out.channels)


def largest(values: torch.Tensor, share: float) -> list[int]:
    """All but the ceil(share * n) least, as the isometry papers have it."""
    gone = math.ceil(share * len(values))
    return sorted(values.argsort()[gone:].tolist())


@pytest.mark.parametrize("share", [0.25, 0.5, 0.85])
def test_l1_of_an_mlp_keeps_the_neurons_of_the_largest_incoming_weights(share: float) -> None:
    model = mlp()

    plan = chosen(model, MLP_SHAPE, Budget(channels=share))

    for index in (1, 2, 3):
        weight = model.get_parameter(f"{index}.weight").double()
        assert largest(weight.abs().mean(1), share) == kept_rows(plan, str(index))
    assert plan.layers["4"].out is None


def test_l1_of_a_residual_net_takes_the_mean_over_the_layers_of_a_group() -> None:
    model = residual()

    plan = chosen(model, SHAPE, Budget(channels=0.5))

    sizes = {
        name: model.get_parameter(f"{name}.weight").double().abs().mean((1, 2, 3))
        for name in ("stem", "a1", "a2", "b1", "b2", "short")
    }
    for name in ("a1", "b1"):
        assert largest(sizes[name], 0.5) == kept_rows(plan, name)
    assert largest(sizes["stem"] + sizes["a2"], 0.5) == kept_rows(plan, "stem") == kept_rows(plan, "a2")
    assert largest(sizes["short"] + sizes["b2"], 0.5) == kept_rows(plan, "short") == kept_rows(plan, "b2")


@pytest.mark.parametrize(
    ("share", "round_to", "expected"),
    [
        (0.0, 1, [10, 10, 7]),
        (0.05, 1, [9, 9, 6]),
        (0.3, 1, [7, 7, 4]),
        (0.7, 1, [3, 3, 2]),
        (0.95, 1, [1, 1, 1]),
        (0.3, 4, [4, 4, 4]),
        (0.7, 2, [2, 2, 2]),
    ],
)
def test_ceil_of_the_share_goes_from_every_group(share: float, round_to: int, expected: list[int]) -> None:
    plan = chosen(mlp(), MLP_SHAPE, Budget(channels=share), round_to=round_to)

    assert expected == [group.kept for group in plan.groups][:3]


def test_a_share_that_floating_point_cannot_hold_is_not_rounded_up() -> None:
    plan = chosen(mlp((100, 20)), MLP_SHAPE, Budget(channels=0.55))  # 0.55 * 100 = 55.00000000000001

    assert [45, 9] == [group.kept for group in plan.groups][:2]


def test_rounds_lead_to_the_same_share() -> None:
    told: list[list[int]] = []

    prune_channels(
        mlp(),
        make_scorer("taylor"),
        scoring_inputs(MLP_SHAPE, 3),
        Budget(channels=0.7),
        scope="layer",
        round_to=1,
        rounds=3,
        on_round=lambda _, plan: told.append([group.kept for group in plan.groups][:3]),
    )

    assert [3, 3, 2] == told[-1]
    assert told[0][0] > told[1][0] > told[2][0]


@pytest.mark.parametrize("budget", [Budget(0.5), Budget(flops=0.4), Budget(params=300, flops=0.5)], ids=str)
def test_another_budget_is_met_by_the_least_share_that_fits(budget: Budget) -> None:
    model = residual()
    dense = layer_costs(model, SHAPE)
    total, macs = sum(cost.weights for cost in dense), sum(cost.macs for cost in dense)

    def fits(plan: ChannelPlan) -> bool:
        slim = layer_costs(plan.apply(model), SHAPE)
        most = (budget.weights(total), budget.macs(macs))
        has = (sum(cost.weights for cost in slim), sum(cost.macs for cost in slim))
        return all(bound is None or number <= bound for number, bound in zip(has, most, strict=True))

    plan = chosen(model, SHAPE, budget)

    free = [group for group in plan.groups if group.reason is None]
    shares = sorted({gone / group.channels for group in free for gone in range(group.channels)})
    kept = [[max(1, n - math.ceil(share * n - 1e-9)) for n in (group.channels for group in free)] for share in shares]
    place = kept.index([group.kept for group in free])
    assert fits(plan)
    assert not fits(chosen(model, SHAPE, Budget(channels=shares[place - 1])))


def test_layers_that_stay_dense_keep_all() -> None:
    plan = chosen(residual(), SHAPE, Budget(channels=0.5), keep_dense=["a1"])

    kept = {group.layer: (group.kept, group.channels) for group in plan.groups}
    assert (4, 4) == kept["a1"]
    assert {"stem": (4, 8), "b1": (3, 6)} == {name: kept[name] for name in ("stem", "b1")}


def test_what_has_to_be_met_is_known_before() -> None:
    model = residual()

    limits = check_channels(model, SHAPE, Budget(channels=0.5), scorer=make_scorer("l1"), scope="layer", round_to=1)

    plan = chosen(model, SHAPE, Budget(channels=0.5))
    assert plan.mask(model).kept == limits.weights
    assert limits.weights / Mask.dense(model).total == pytest.approx(limits.shares[0])


def test_over_all_groups_the_least_filters_go_first_whatever_they_save() -> None:
    """Global scope: by mean size, the narrow layer's 7 filters are worth more than those of the wide ones."""
    model = mlp()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("weight"):
                parameter.fill_(1.0)
        model.get_parameter("1.weight")[2] = 0.01
        model.get_parameter("2.weight")[[4, 6]] = 0.02
        model.get_parameter("3.weight")[0] = 0.03

    plan = chosen(model, MLP_SHAPE, Budget(params=282), scope="global")

    assert [2] == [row for row in range(10) if row not in kept_rows(plan, "1")]
    assert [4, 6] == [row for row in range(10) if row not in kept_rows(plan, "2")]
    assert [0] == [row for row in range(7) if row not in kept_rows(plan, "3")]


@pytest.mark.parametrize(
    ("budget", "options", "message"),
    [
        (lambda: Budget(channels=1.0), {}, r"sparsity must be in \[0, 1\); got 1"),
        (lambda: Budget(0.5, channels=0.5), {}, "a share of channels says how many go; leave the other budgets away"),
        (lambda: Budget(channels=0.5), {"scope": "global"}, "it needs --scope layer; got global"),
        (lambda: Budget(0.5), {"scope": "model"}, "scope must be global or layer; got 'model'"),
    ],
)
def test_shares_that_say_nothing_are_refused(budget: object, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        chosen(mlp(), MLP_SHAPE, budget(), **options)  # type: ignore[operator]


def test_single_weights_have_no_share_of_channels() -> None:
    with pytest.raises(ConfigError, match="a share of channels is met by removing channels; use prune_channels"):
        prune(mlp(), make_scorer("magnitude"), ScoringInputs(MLP_SHAPE, batch_size=2), Budget(channels=0.5))
