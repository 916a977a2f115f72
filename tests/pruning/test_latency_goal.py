"""prune_channels() under a latency: what is chosen is fast enough by a law that stands in for the machine."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from ntksap_export.errors import ConfigError
from ntksap_export.latency_budget import LatencyBudget, reached_text
from ntksap_export.masks import Mask, layer_costs, mask_table
from ntksap_export.pruning import Budget, ChannelPlan, ScoringInputs, make_scorer, prune_channels
from ntksap_export.pruning.channel_groups import channel_groups
from ntksap_export.pruning.latency import LatencyTable, LayerPrices, Widths
from ntksap_export.pruning.latency_goal import LatencyGoal, Reached
from ntksap_export.pruning.narrowing import Narrowing
from ntksap_export.timing import Timing

from .channel_nets import NETS, SHAPE, build
from .test_structured import Given

INPUTS = ScoringInputs(SHAPE, batch_size=4)


@dataclass
class Law:
    """A machine by formula: a layer takes outputs x inputs + 10, each side rounded up to `step`."""

    model: nn.Module
    step: int = 1
    whole_ms: Callable[[float], float] = lambda total: 0.05 + 1.4 * total
    wrong: float = 0.0  # share by which every other layer's price in the table is too low
    timed: list[ChannelPlan] = field(default_factory=list)

    def layer_ms(self, out: int, into: int) -> float:
        out, into = (-(-width // self.step) * self.step for width in (out, into))
        return (out * into + 10) / 1000

    def table(self, widths: Mapping[str, tuple[Widths, Widths]]) -> LatencyTable:
        layers = {}
        for index, (name, (least, most)) in enumerate(widths.items()):
            outs, ins = (tuple(range(low, high + 1)) for low, high in zip(least, most, strict=True))
            scale = 1 - self.wrong * (index % 2)
            rows = tuple(tuple(scale * self.layer_ms(out, into) for into in ins) for out in outs)
            layers[name] = LayerPrices(outs, ins, rows)
        return LatencyTable(layers, self.step, "law")

    def whole(self, plan: ChannelPlan) -> Timing:
        self.timed.append(plan)
        ms = self.ms_of(plan)
        return Timing(ms, 0.99 * ms, 1.01 * ms, 100)

    def ms_of(self, plan: ChannelPlan) -> float:
        shapes = [cost.shape for cost in layer_costs(plan.apply(self.model), SHAPE)]
        return self.whole_ms(sum(self.layer_ms(*shape[:2]) for shape in shapes))


def net(name: str = "residual") -> nn.Module:
    return build(NETS[name]).float()


def ones(model: nn.Module) -> Given:
    return Given({name: torch.ones(kept.shape) for name, kept in Mask.dense(model).items()})


def chosen(
    law: Law, share: float, scorer: object | None = None, budget: Budget | None = None, **options: object
) -> tuple[ChannelPlan, Reached]:
    """Prune to `share` of what the dense network takes."""
    asked = LatencyBudget(share * law.ms_of(ChannelPlan()))
    goal = LatencyGoal(asked, law, alone=budget is None)
    plan = prune_channels(
        law.model,
        scorer or make_scorer("magnitude"),  # type: ignore[arg-type]
        INPUTS,
        budget or Budget(latency=asked),
        latency=goal,
        **{"round_to": 1, **options},  # type: ignore[arg-type]
    )
    assert goal.reached is not None
    return plan, goal.reached


@pytest.mark.parametrize("name", ["residual", "concat", "flat", "depthwise"])
@pytest.mark.parametrize("share", [0.9, 0.6, 0.45])
def test_the_network_is_fast_enough_and_no_more_than_that(name: str, share: float) -> None:
    law = Law(net(name))

    plan, reached = chosen(law, share)

    assert law.ms_of(plan) == reached.measured.ms <= reached.asked_ms
    assert reached.measured.ms >= 0.85 * reached.asked_ms
    assert reached.promised_ms == pytest.approx(reached.measured.ms, rel=1e-6)


@pytest.fixture(scope="module")
def every_network() -> list[tuple[float, int]]:
    """Of all widths that the net may have: what it takes, and the weights that it keeps."""
    law = Law(net())
    groups = channel_groups(law.model, SHAPE)
    shapes = {name: kept.shape for name, kept in Mask.dense(law.model).items()}
    allowed = [tuple(range(1, group.units + 1)) if group.reason is None else (group.units,) for group in groups]
    narrowing = Narrowing(groups, allowed, shapes, {})
    networks = []
    for widths in itertools.product(*allowed):
        counts = narrowing.counts_at([list(range(units)) for units in widths])
        weights = sum(out * into * math.prod(shapes[name][2:]) for name, (out, into) in counts.items())
        networks.append((law.whole_ms(sum(law.layer_ms(*pair) for pair in counts.values())), weights))
    return networks


@pytest.mark.parametrize("share", [0.85, 0.7, 0.5, 0.4])
def test_it_keeps_nearly_what_the_best_network_would(share: float, every_network: list[tuple[float, int]]) -> None:
    law = Law(net())

    plan, reached = chosen(law, share, ones(law.model))

    best = max(weights for ms, weights in every_network if ms <= reached.asked_ms)
    assert 0.93 * best <= plan.mask(law.model).kept <= best


def test_the_same_share_of_every_group_goes_until_it_is_fast_enough() -> None:
    law = Law(net())

    plan, reached = chosen(law, 0.6, scope="layer")

    assert law.ms_of(plan) == reached.measured.ms <= reached.asked_ms
    gone = [(group.channels - group.kept, group.channels) for group in plan.groups if group.reason is None]
    share = min(some / channels for some, channels in gone)
    assert share > 0
    assert [min(channels - 1, math.ceil(share * channels - 1e-9)) for _, channels in gone] == [some for some, _ in gone]


def test_channels_go_in_the_steps_in_which_they_cost_time() -> None:
    law = Law(net(), step=4)

    plan, _ = chosen(law, 0.7)

    free = [group for group in plan.groups if group.reason is None]
    assert all(group.kept == group.channels or group.kept % 4 == 0 for group in free)
    assert any(group.kept < group.channels for group in free)


@pytest.mark.parametrize("whole", [lambda total: 2 * total**1.3, lambda total: 0.2 + math.sqrt(total)])
def test_a_table_that_is_wrong_is_put_right_by_measuring(whole: Callable[[float], float]) -> None:
    law = Law(net(), whole_ms=whole, wrong=0.6)

    plan, reached = chosen(law, 0.8)

    assert law.ms_of(plan) <= reached.asked_ms
    assert reached.measured.ms >= 0.8 * reached.asked_ms
    assert law.ms_of(plan) == max(law.ms_of(plan) for plan in law.timed if law.ms_of(plan) <= reached.asked_ms)


def test_a_latency_that_cannot_be_reached_says_what_can_before_anything_is_scored() -> None:
    law = Law(net())
    scorer = ones(law.model)

    with pytest.raises(ConfigError, match=r"cannot be met: the narrowest network takes .* ms \(95 % interval .*ask"):
        chosen(law, 0.01, scorer)
    assert scorer.asked == []


def test_a_latency_that_the_dense_network_has_leaves_nothing_to_do() -> None:
    with pytest.raises(ConfigError, match="leaves nothing to remove: the dense network takes"):
        chosen(Law(net()), 1.1)


@pytest.mark.parametrize(("share", "budget"), [(0.9, Budget(0.6)), (0.5, Budget(0.1)), (1.5, Budget(flops=0.5))])
def test_all_bounds_hold_at_once(share: float, budget: Budget) -> None:
    law = Law(net())
    costs = layer_costs(law.model, SHAPE)

    plan, reached = chosen(law, share, budget=budget)

    table = mask_table(plan.mask(law.model), costs)
    assert law.ms_of(plan) == reached.measured.ms <= reached.asked_ms
    assert table.density <= 1 - (budget.sparsity or 0) + 1e-9
    assert table.flop_density <= (budget.flops or 1) + 1e-9


def test_layers_that_stay_and_floors_are_respected() -> None:
    plan, _ = chosen(Law(net()), 0.85, keep_dense=["a1"], min_layer_density=0.5)

    kept = {group.layer: group.kept / group.channels for group in plan.groups}
    assert kept["a1"] == 1.0
    assert min(kept.values()) >= 0.5


@pytest.mark.parametrize("method", ["ntksap", "synflow", "random"])
@pytest.mark.parametrize("rounds", [1, 4])
def test_any_method_and_any_number_of_rounds(method: str, rounds: int) -> None:
    law = Law(net())

    plan, reached = chosen(law, 0.6, make_scorer(method), rounds=rounds)

    assert law.ms_of(plan) <= reached.asked_ms


def test_methods_that_choose_anew_in_each_round_may_do_so_under_a_latency() -> None:
    law = Law(net())
    scorer = ones(law.model)
    scorer.revives = True

    plan, reached = chosen(law, 0.6, scorer, rounds=3)

    assert law.ms_of(plan) <= reached.asked_ms


def test_equal_times_give_equal_networks() -> None:
    first, second = (chosen(Law(net(), wrong=0.3), 0.6) for _ in range(2))

    assert first == second


def test_a_machine_on_which_nothing_is_fast_enough_is_given_up() -> None:
    law = Law(net())
    narrowest = law.ms_of

    def busy(plan: ChannelPlan) -> Timing:
        law.timed.append(plan)
        ms = narrowest(plan) if len(law.timed) <= 2 else 100.0
        return Timing(ms, ms, ms, 1)

    law.whole = busy  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="was not met in 8 tries, the last of them took 100 ms"):
        chosen(law, 0.6)


def test_what_is_told_of_it_stands_side_by_side() -> None:
    _, reached = chosen(Law(net()), 0.5)

    told = reached.to_json()
    assert told["asked_ms"] == reached.asked_ms
    assert told["measured_ms"] <= told["asked_ms"] < told["dense_ms"]
    assert told["ci_ms"][0] < told["measured_ms"] < told["ci_ms"][1]
    assert told["table_digest"] == "law"
    assert reached_text(told).startswith(f"asked {reached.asked_ms:.4g} ms, promised ")
