"""prune_channels(): the budget is met to one step of channels, repeatably, and the model is left as it was found."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from ntksap_export import models
from ntksap_export.errors import ConfigError, ScoreError
from ntksap_export.masks import Mask, layer_costs, mask_table
from ntksap_export.pruning import SCORERS, Budget, ChannelPlan, Scorer, ScoringInputs, make_scorer, prune_channels
from ntksap_export.pruning.channel_groups import channel_groups
from ntksap_export.pruning.channel_units import plan_of
from ntksap_export.pruning.narrowing import Narrowing

from ..support.untouched import everything_of
from .channel_nets import NETS, SHAPE, Wrapped, build, conv

WITHOUT_NORM = {"bn-scale": ("a2", "b1", "b2")}
METHODS = ("ntksap", "snip", "force", "grasp", "synflow", "magnitude", "random")


def scoring_inputs(shape: tuple[int, int, int] = SHAPE, classes: int = 2, seed: int = 1) -> ScoringInputs:
    generator = torch.Generator().manual_seed(seed)
    return ScoringInputs(
        shape, batch_size=4, seed=seed, data=(torch.randn(4, *shape, generator=generator), torch.arange(4) % classes)
    )


INPUTS = scoring_inputs()


def net(name: str = "residual") -> nn.Module:
    return build(NETS[name]).float()


def costs(model: nn.Module, plan: ChannelPlan, shape: tuple[int, int, int] = SHAPE) -> tuple[int, int]:
    """Weights and MACs of the slim model, counted on it."""
    slim = layer_costs(plan.apply(model), shape)
    return sum(cost.weights for cost in slim), sum(cost.macs for cost in slim)


@dataclass
class Given:
    """A scorer that answers with what it was given, and remembers what it was asked."""

    scores: dict[str, torch.Tensor]
    default_rounds: int = 1
    revives: bool = False
    asked: list[tuple[Mask, ScoringInputs, int]] = field(default_factory=list)

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> dict[str, torch.Tensor]:
        self.asked.append((mask, inputs, round_index))
        return self.scores


def even(model: nn.Module, **changes: float) -> Given:
    """Every weight scores 1, but for the named layers."""
    return Given(
        {
            name: torch.full(kept.shape, changes.get(name.removesuffix(".weight"), 1.0))
            for name, kept in Mask.dense(model).items()
        }
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("budget", [Budget(0.5), Budget(flops=0.4), Budget(params=300, flops=0.5)], ids=str)
def test_a_budget_is_met_and_used_up_to_one_step(method: str, name: str, budget: Budget) -> None:
    model = net(name)
    dense = mask_table(Mask.dense(model), layer_costs(model, SHAPE))

    plan = prune_channels(model, make_scorer(method), INPUTS, budget, rounds=1, round_to=1)

    weights, macs = costs(model, plan)
    table = mask_table(plan.mask(model), layer_costs(model, SHAPE))
    assert (weights, macs) == (table.kept, table.kept_macs)
    bounds = budget.weights(dense.weights) or dense.weights, budget.macs(dense.macs) or dense.macs
    assert weights <= bounds[0]
    assert macs <= bounds[1]
    # One unit more, whichever group it comes from, breaks a bound: here everything was lost in the one round.
    groups = channel_groups(model, SHAPE)
    kept = units_kept(plan, model)
    for index, group in enumerate(groups):
        if group.reason is None and len(kept[index]) < group.units:
            other = [list(units) for units in kept]
            other[index] = sorted({*kept[index], next(unit for unit in range(group.units) if unit not in kept[index])})
            more = costs(model, plan_of(groups, other))
            assert more[0] > bounds[0] or more[1] > bounds[1], group.name


def units_kept(plan: ChannelPlan, model: nn.Module) -> list[list[int]]:
    kept = []
    for group in channel_groups(model, SHAPE):
        member = group.members[0]
        sides = plan.layers.get(member.layer)
        stay = set(range(member.of)) if sides is None or sides.out is None else set(sides.out.channels)
        kept.append(sorted({unit for at, unit in zip(member.positions, member.units, strict=True) if at in stay}))
    return kept


def test_the_least_mean_score_goes_first() -> None:
    model = net()

    # A channel of b1 is 8 * 9 weights of its own and 10 * 9 in b2; two of them meet the budget.
    budget = Budget(params=Mask.dense(model).total - 2 * 162)

    plan = prune_channels(model, even(model, b1=0.5, b2=0.5), INPUTS, budget, round_to=1)

    assert {"b1": 4} == {group.layer: group.kept for group in plan.groups if group.kept < group.channels}


def test_units_of_a_group_go_in_the_order_of_the_scores_of_all_their_weights() -> None:
    model = net("flat")
    scorer = even(model)
    # Channel 3 of features.4 stands in row 3 and in columns 48 to 63 of `hidden`; the rest of its row scores high.
    scorer.scores["hidden.weight"][:, 48:64] = 0.0
    scorer.scores["features.4.weight"][3] = 1.5
    # Every other group is too good to lose anything.
    for name in ("features.0.weight", "fc.weight"):
        scorer.scores[name].fill_(1e6)

    plan = prune_channels(model, scorer, INPUTS, Budget(params=Mask.dense(model).total - 1), round_to=1)

    out = plan.layers["features.4"].out
    assert out is not None
    assert (0, 1, 2, 4) == out.channels
    assert {"features.4", "hidden"} == set(plan.layers)


def test_flops_are_a_price() -> None:
    """Where all weights score the same, a FLOP budget takes what computes most for its weights: the early layers."""
    model = nn.Sequential(
        conv(3, 8), nn.MaxPool2d(2), conv(8, 8), nn.MaxPool2d(2), conv(8, 8), nn.Flatten(), nn.Linear(32, 2)
    )

    plan = prune_channels(model, even(model), INPUTS, Budget(flops=0.8), round_to=1)

    kept = {group.layer: group.kept for group in plan.groups}
    assert kept["0"] < kept["2"] == kept["4"] == 8


def test_equal_scores_narrow_all_groups_alike() -> None:
    model = nn.Sequential(
        *(layer for _ in range(4) for layer in (conv(8, 8), nn.ReLU())), nn.Flatten(), nn.Linear(512, 2)
    )
    scorer = even(model)
    for scores in scorer.scores.values():
        scores.zero_()
    inputs = ScoringInputs((8, 8, 8), batch_size=2)

    plan = prune_channels(model, scorer, inputs, Budget(0.4), round_to=1)

    kept = [group.kept for group in plan.groups if group.reason is None]
    assert max(kept) - min(kept) <= 1


@pytest.mark.parametrize("method", METHODS)
def test_every_round_keeps_a_part_of_the_one_before(method: str) -> None:
    model, rounds = net(), list[tuple[int, ChannelPlan]]()
    scorer = make_scorer(method)

    plan = prune_channels(
        model, scorer, INPUTS, Budget(0.7), rounds=4, round_to=1, on_round=lambda *told: rounds.append(told)
    )

    masks = [told.mask(model) for _, told in rounds]
    assert [1, 2, 3, 4] == [index for index, _ in rounds]
    assert plan == rounds[-1][1]
    assert masks[0].kept > masks[1].kept > masks[2].kept > masks[3].kept
    for earlier, later in pairwise(masks) if not scorer.revives else ():
        assert not any(bool((later[name] & ~earlier[name]).any()) for name in later)


def test_each_round_scores_the_dense_model_under_the_mask_of_the_last_with_statistics_held() -> None:
    model, rounds = net(), list[ChannelPlan]()
    scorer = even(model)

    prune_channels(
        model, scorer, INPUTS, Budget(0.6), rounds=3, round_to=1, on_round=lambda _, told: rounds.append(told)
    )

    assert [0, 1, 2] == [index for *_, index in scorer.asked]
    assert all(inputs.hold_statistics for _, inputs, _ in scorer.asked)
    assert scorer.asked[0][0].same_as(Mask.dense(model))
    assert all(mask.same_as(told.mask(model)) for (mask, *_), told in zip(scorer.asked[1:], rounds, strict=False))


def test_what_revives_may_come_back() -> None:
    """The second round turns the scores around: only a scorer that revives gets back what the first one lost."""

    @dataclass
    class Turning(Given):
        def score(
            self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int
        ) -> dict[str, torch.Tensor]:
            scores = super().score(model, mask, inputs, round_index)
            return {name: -value if round_index else value for name, value in scores.items()}

    model = net()
    generator = torch.Generator().manual_seed(0)
    given = {name: torch.rand(kept.shape, generator=generator) for name, kept in Mask.dense(model).items()}
    turned = {name: -value for name, value in given.items()}

    def pruned(scorer: Scorer, rounds: int) -> ChannelPlan:
        return prune_channels(model, scorer, INPUTS, Budget(0.6), rounds=rounds, round_to=1)

    assert pruned(Turning(given, revives=True), 2) == pruned(Given(turned), 1)
    assert pruned(Turning(given), 2) != pruned(Given(turned), 1)


@pytest.mark.parametrize("method", ["ntksap", "snip", "synflow"])
@pytest.mark.parametrize("name", ["resnet20", "resnet18", "vgg16_bn"])
def test_real_networks_are_pruned_close_to_the_budget_in_multiples_of_8(method: str, name: str) -> None:
    model = models.build(name, num_classes=10, stem="cifar" if models.info(name).stems else "auto")
    size = 32 if name == "vgg16_bn" else 16
    inputs = scoring_inputs((3, size, size), classes=10)

    plan = prune_channels(model, make_scorer(method), inputs, Budget(flops=0.25), rounds=3)

    table = mask_table(plan.mask(model), layer_costs(model, inputs.shape))
    assert 0.95 * 0.25 <= table.flop_density <= 0.25
    assert all(group.kept % 8 == 0 for group in plan.groups if group.reason is None)
    assert (2, 10) == plan.apply(model)(torch.zeros(2, *inputs.shape)).shape


def test_kept_channels_are_a_multiple_or_all_of_them() -> None:
    model = net()

    plan = prune_channels(model, make_scorer("magnitude"), INPUTS, Budget(params=900), rounds=1, round_to=4)

    assert {"stem": 4, "a1": 4, "b1": 4, "b2": 8, "fc": 2} == {group.layer: group.kept for group in plan.groups}
    assert {"a1": "its 4 channels leave no smaller number that --round-to 4 allow"} == {
        group.layer: group.reason for group in plan.groups if group.reason is not None and group.layer != "fc"
    }


def test_a_floor_holds_for_each_group() -> None:
    model = net()

    plan = prune_channels(
        model, even(model, a1=0.0, a2=0.0, b1=0.0, b2=0.0), INPUTS, Budget(0.5), round_to=1, min_layer_density=0.5
    )

    assert all(group.kept >= group.channels / 2 for group in plan.groups)
    assert {"a1": 2, "b1": 3} == {group.layer: group.kept for group in plan.groups if group.layer in ("a1", "b1")}


def test_a_layer_kept_dense_keeps_its_group() -> None:
    model = net()

    plan = prune_channels(model, make_scorer("random"), INPUTS, Budget(0.5), round_to=1, keep_dense=["a2.weight", "b1"])

    reasons = {group.layer: group.reason for group in plan.groups}
    assert {"stem": "--keep-dense a2", "b1": "--keep-dense b1"} == {name: reasons[name] for name in ("stem", "b1")}
    assert not {"stem", "a2", "b1"} & {name for name, sides in plan.layers.items() if sides.out is not None}
    assert costs(model, plan)[0] <= Mask.dense(model).total // 2


@pytest.mark.parametrize("method", ["ntksap", "snip", "random"])
def test_the_same_seed_gives_the_same_plan(method: str) -> None:
    def pruned(seed: int) -> ChannelPlan:
        return prune_channels(net(), make_scorer(method), scoring_inputs(seed=seed), Budget(0.6), rounds=2, round_to=1)

    first, again, other = pruned(3), pruned(3), pruned(4)

    assert first == again
    assert first != other


@pytest.mark.parametrize("method", SCORERS)
def test_nothing_of_the_model_and_no_random_state_is_touched(method: str) -> None:
    model = net().train()
    model.a_bn.eval()
    model.a2.weight.requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = everything_of(model)

    prune_channels(
        model, make_scorer(method), INPUTS, Budget(0.2), rounds=2, round_to=1, keep_dense=WITHOUT_NORM.get(method, ())
    )

    assert before == everything_of(model)


@pytest.mark.parametrize(
    ("budget", "options", "message"),
    [
        (
            Budget(params=20),
            {"round_to": 1},
            r"--params allows 20 weights, but \d+ stay with at least 1 channels in each",
        ),
        (Budget(0.9), {"round_to": 4}, r"--sparsity 0.9 allows \d+ weights, but \d+ stay with at least 4 channels in"),
        (Budget(flops=0.05), {"round_to": 4}, r"--flops 0.05 allows [\d,]+ MACs, but [\d,]+ stay with at least 4"),
        (Budget(0.1, flops=0.05), {"round_to": 4}, "--flops 0.05 allows"),
        (
            Budget(0.5),
            {"round_to": 1, "min_layer_density": 0.8},
            r"at least --min-layer-density 0.8 in each of 5 groups, 2 left whole; lower --round-to",
        ),
        (
            Budget(0.5),
            {"keep_dense": ["stem", "b1", "b2"], "round_to": 1},
            r"each of 5 groups, 4 left whole; .*keep fewer",
        ),
        (Budget(0.1), {"keep_dense": ["stems"]}, "--keep-dense: no prunable layer 'stems'; did you mean stem"),
        (
            Budget(0.1),
            {"keep_dense": ["stem", "a1", "b1", "b2"]},
            r"no channel of the model can be removed \('stem': --keep",
        ),
        (
            Budget(0.1),
            {"round_to": 16},
            r"no channel of the model can be removed \('stem': its 8 channels leave no small",
        ),
        (Budget(0.1), {"round_to": 0}, "round-to must be at least 1; got 0"),
        (Budget(0.1), {"min_layer_density": 1.5}, r"min-layer-density must be in \[0, 1\]; got 1.5"),
        (Budget(0.1), {"rounds": 0, "round_to": 1}, "rounds must be at least 1; got 0"),
        (Budget(params=10**6), {}, "--params 1,000,000 is more than the"),
    ],
)
def test_what_cannot_be_met_is_refused_before_any_round(
    budget: Budget, options: dict[str, object], message: str
) -> None:
    model = net()
    scorer = even(model)

    with pytest.raises(ConfigError, match=message):
        prune_channels(model, scorer, INPUTS, budget, **options)  # type: ignore[arg-type]

    assert [] == scorer.asked


def test_the_tightest_budget_that_can_be_met_is_met() -> None:
    model = net()
    groups = channel_groups(model, SHAPE)
    shapes = {name: kept.shape for name, kept in Mask.dense(model).items()}
    least, _ = Narrowing(groups, [(1, g.units) if g.reason is None else (g.units,) for g in groups], shapes, {}).least()

    plan = prune_channels(model, make_scorer("synflow"), INPUTS, Budget(params=least), rounds=3, round_to=1)

    assert least == costs(model, plan)[0]
    assert {1} == {group.kept for group in plan.groups if group.reason is None}


def test_a_budget_of_everything_removes_nothing() -> None:
    plan = prune_channels(net(), make_scorer("random"), INPUTS, Budget(0.0, flops=1.0), rounds=2, round_to=1)

    assert {} == plan.layers


def test_a_model_that_cannot_be_traced_is_named() -> None:
    model = build(lambda: Wrapped(nn.GroupNorm(1, 6))).float()
    model.last = model.stem  # runs twice, on other widths

    with pytest.raises(ConfigError, match=r"the model cannot be traced for the channel pattern: 'stem' \(Conv2d\)"):
        prune_channels(model, make_scorer("random"), INPUTS, Budget(0.1))


def test_a_group_that_cannot_be_followed_is_reported_with_its_reason() -> None:
    model = build(lambda: Wrapped(nn.GroupNorm(1, 6))).float()

    plan = prune_channels(model, make_scorer("random"), INPUTS, Budget(0.1), round_to=1)

    (stem,) = [group for group in plan.summary()["groups"] if group["layer"] == "stem"]
    assert (6, 6) == (stem["channels"], stem["kept"])
    assert "its channels run through 'middle' (GroupNorm), which cannot be sliced by channel" == stem["reason"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_not_numbers_name_their_layer(value: float) -> None:
    model = net()
    scorer = even(model)
    scorer.scores["b1.weight"][0, 0, 0, 0] = value

    with pytest.raises(ScoreError, match=r"the score of 'b1.weight' has NaN or infinite values"):
        prune_channels(model, scorer, INPUTS, Budget(0.5), round_to=1)


def test_the_running_counts_are_those_of_the_slim_model() -> None:
    """Whatever comes and goes, in any order: counts and sums equal those made anew."""
    model = net("depthwise")
    groups = channel_groups(model, SHAPE)
    positions = {cost.name: cost.positions for cost in layer_costs(model, SHAPE)}
    dense = Mask.dense(model)
    shapes = {name: kept.shape for name, kept in dense.items()}
    widths = [tuple(range(1, group.units + 1)) if group.reason is None else (group.units,) for group in groups]
    narrowing = Narrowing(groups, widths, shapes, positions)
    generator = torch.Generator().manual_seed(0)
    total = dense.total

    for share in (0.8, 0.6, 0.4):
        scores = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
        bounds = round(share * total), None, None
        narrowing.begin_round(scores)
        narrowing.fit(bounds, bounds)
        plan = plan_of(groups, narrowing.kept)
        assert (narrowing.weights, narrowing.macs) == costs(model, plan)
        for name, mask in plan.mask(model).items():
            if name in narrowing._sums:
                left = (scores[name] * mask).reshape(*mask.shape[:2], -1).sum(2).double()
                rows, columns = mask.flatten(1).any(1), mask.transpose(0, 1).flatten(1).any(1)
                np.testing.assert_allclose(narrowing._sums[name][0][rows.numpy()], left.sum(1)[rows], rtol=1e-5)
                np.testing.assert_allclose(narrowing._sums[name][1][columns.numpy()], left.sum(0)[columns], rtol=1e-5)
