"""Whole channels: filters that are physically removed, chosen by the scores of all the weights that go with them.

The scorer is the same as for single weights; it looks at the dense model under the mask that equals the removal, with
BatchNorm's statistics held constant: with batch statistics the sum of w * dL/dw over a filter is exactly zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

from torch import nn

from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask, prunable_names
from ntksap_export.progress import Progress, Silent
from ntksap_export.pruning.budget import Budget, exponential_shares
from ntksap_export.pruning.channel_groups import channel_groups
from ntksap_export.pruning.channel_plan import ChannelPlan
from ntksap_export.pruning.channel_units import ChannelGroup, plan_of
from ntksap_export.pruning.distributed import check_same, scores_of_main
from ntksap_export.pruning.even_shares import fit_evenly, weights_without
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.pruning.latency_goal import LatencyGoal
from ntksap_export.pruning.limits import Limits, find_limits, resolve_layers
from ntksap_export.pruning.narrowing import Bounds, Narrowing
from ntksap_export.pruning.scorers import Scorer, check_filters, judges_filters
from ntksap_export.pruning.select import check_finite
from ntksap_export.ranges import check_share


def prune_channels(
    model: nn.Module,
    scorer: Scorer,
    inputs: ScoringInputs,
    budget: Budget,
    *,
    scope: str = "global",
    rounds: int | None = None,
    round_share: float | None = None,
    keep_dense: Iterable[str] = (),
    round_to: int = 8,
    min_layer_density: float = 0.0,
    latency: LatencyGoal | None = None,
    progress: Progress | None = None,
    on_round: Callable[[int, ChannelPlan], None] | None = None,
) -> ChannelPlan:
    """Choose which channels of `model` live, before it is trained or after.

    Args:
        model: left exactly as found: parameters, buffers, modes. Its device is where scoring runs.
        scorer: the method.
        inputs: shape, number and seed of the scoring batches.
        budget: what may stay, of the prunable weights, of the FLOPs, or of both; or which share of channels goes.
        scope: `global` compares channels over all groups, `layer` takes the same share of each (`even_shares`).
        rounds: score-and-remove steps on an exponential schedule; None takes the method's own number.
        round_share: instead of `rounds`, and without `latency`: each round removes this share of what is left, rounded
            down, and the last what the budget asks.
        keep_dense: layers whose output channels all stay, and with them those of every layer of the same group.
        round_to: kept channels of a group are a multiple of it, or all; at least 1.
        min_layer_density: share of its channels that each group keeps at least, in [0, 1].
        latency: to be met too, where `budget` has one; it says afterwards what was promised and measured.
        progress: where the rounds are shown.
        on_round: called with the round (from 1) and its plan.

    Returns:
        A plan that keeps no more than the budget, and less by no more than one step of `round_to` channels (scope
        `layer`: of each group): the last one that had to go. Under a latency, one that was timed and is fast enough.

    Raises:
        ConfigError: the model cannot be traced (names the module or operator), nothing can be removed, an unknown
            layer, one whose filters the scorer cannot judge, or a budget that cannot be met; says which bound binds.
        ScoreError: a score is NaN or infinite.
    """
    filters = judges_filters(scorer)
    limits, groups, narrowing = _prepare(
        model, inputs.shape, budget, scope, keep_dense, round_to, min_layer_density, filters
    )
    check_filters(scorer, model, inputs.shape, _with_free_filters(model, groups))
    if latency is not None:
        latency.begin(narrowing, lambda kept: plan_of(groups, kept))
    if round_share is None:
        schedule = _schedule(limits, scorer.default_rounds if rounds is None else rounds, latency, narrowing.ms)
    else:
        schedule = [(weights, macs, None) for weights, macs, _ in limits.schedule_removing(round_share)]
    held = replace(inputs, hold_statistics=True)
    plan = plan_of(groups, narrowing.kept)
    with (progress or Silent()).task("prune channels", len(schedule)) as task:
        for index, bounds in enumerate(schedule):
            mask = plan.mask(model)
            scores = scores_of_main(scorer.score(model, mask, held, index))
            check_finite(scores, mask)
            if scorer.revives:
                narrowing.restore()
            narrowing.begin_round(scores)
            _fit(narrowing, limits.rules.scope, bounds, schedule[-1])
            plan = plan_of(groups, narrowing.kept)
            if latency is not None and index + 1 == len(schedule):
                plan = _timed(latency, plan, narrowing, limits, groups)
            task.advance(note=f"density {narrowing.weights / limits.total_weights:.4f}")
            if on_round is not None:
                on_round(index + 1, plan)
    check_same(plan.mask(model).digest())
    return plan


def _schedule(limits: Limits, rounds: int, latency: LatencyGoal | None, dense_ms: float) -> list[Bounds]:
    """What each round keeps at most."""
    steps = [(weights, macs) for weights, macs, _ in limits.schedule(rounds)]
    if latency is None:
        return [(*step, None) for step in steps]
    shares = exponential_shares(latency.bound / dense_ms, rounds)
    times = [*(share * dense_ms for share in shares[:-1]), latency.bound]
    return [(*step, ms) for step, ms in zip(steps, times, strict=True)]


def _fit(narrowing: Narrowing, scope: str, bounds: Bounds, final: Bounds) -> None:
    if scope == "layer":
        fit_evenly(narrowing, bounds)
    else:
        narrowing.fit(bounds, final)


def _with_free_filters(model: nn.Module, groups: Iterable[ChannelGroup]) -> list[str]:
    """Parameter names of the weights of which rows may go, in the model's order."""
    free = {
        f"{member.layer}.weight"
        for group in groups
        if group.reason is None
        for member in group.members
        if member.side == "out"
    }
    return [name for name in prunable_names(model) if name in free]


def _timed(
    latency: LatencyGoal, plan: ChannelPlan, narrowing: Narrowing, limits: Limits, groups: list[ChannelGroup]
) -> ChannelPlan:
    """The last round again, with other sums of layers to aim at, until the network is as fast as was asked."""
    while (answer := latency.judge(plan, narrowing.ms)) is None:
        bounds = (limits.weights, limits.macs, latency.bound)
        narrowing.undo_round()
        _fit(narrowing, limits.rules.scope, bounds, bounds)
        plan = plan_of(groups, narrowing.kept)
    return answer


def check_channels(
    model: nn.Module,
    shape: tuple[int, int, int],
    budget: Budget,
    *,
    scorer: Scorer | None = None,
    scope: str = "global",
    keep_dense: Iterable[str] = (),
    round_to: int = 8,
    min_layer_density: float = 0.0,
) -> Limits:
    """Refuse at once, before anything is scored, what `prune_channels` would refuse; what it has to meet otherwise.

    Raises:
        ConfigError: as `prune_channels`.
    """
    limits, groups, _ = _prepare(model, shape, budget, scope, keep_dense, round_to, min_layer_density)
    if scorer is not None:
        check_filters(scorer, model, shape, _with_free_filters(model, groups))
    return limits


def _prepare(
    model: nn.Module,
    shape: tuple[int, int, int],
    budget: Budget,
    scope: str,
    keep_dense: Iterable[str],
    round_to: int,
    min_layer_density: float,
    filters: bool = False,
) -> tuple[Limits, list[ChannelGroup], Narrowing]:
    """Everything that does not need scores."""
    if round_to < 1:
        raise ConfigError(f"round-to must be at least 1; got {round_to}")
    check_share("min-layer-density", min_layer_density)
    if budget.channels is not None and scope != "layer":
        raise ConfigError(f"a share of channels is that of each group: it needs --scope layer; got {scope}")
    limits = find_limits(model, shape, budget, scope=scope)
    whole = {name.removesuffix(".weight") for name in resolve_layers(model, keep_dense)}
    groups, widths = _with_widths(channel_groups(model, shape), whole, round_to, min_layer_density)
    shapes = {name: kept.shape for name, kept in Mask.dense(model).items()}
    narrowing = Narrowing(groups, widths, shapes, limits.rules.positions, filters)
    if budget.channels is not None:
        weights = weights_without(narrowing, budget.channels)
        limits = replace(limits, weights=weights, shares=(weights / limits.total_weights, 1.0))
    _check(limits, budget, narrowing, groups, round_to, min_layer_density)
    return limits, groups, narrowing


def _with_widths(
    groups: Iterable[ChannelGroup], whole: set[str], round_to: int, min_layer_density: float
) -> tuple[list[ChannelGroup], list[tuple[int, ...]]]:
    """The groups, with a reason where the rules leave nothing to remove, and the numbers of units they may have."""
    ruled, widths = [], []
    for group in groups:
        asked = next((member.layer for member in group.members if member.side == "out" and member.layer in whole), None)
        least = max(min(round_to, group.channels), math.ceil(min_layer_density * group.channels - 1e-9))
        allowed = [
            units
            for units in range(1, group.units)
            if units * group.unit_channels >= least and units * group.unit_channels % round_to == 0
        ]
        reason = group.reason
        if reason is None and asked is not None:
            reason = f"--keep-dense {asked}"
        elif reason is None and not allowed:
            floor = f" and --min-layer-density {min_layer_density:g}" if min_layer_density else ""
            reason = f"its {group.channels} channels leave no smaller number that --round-to {round_to}{floor} allow"
        ruled.append(replace(group, reason=reason))
        widths.append((*(allowed if reason is None else ()), group.units))
    return ruled, widths


def _check(
    limits: Limits,
    budget: Budget,
    narrowing: Narrowing,
    groups: list[ChannelGroup],
    round_to: int,
    min_layer_density: float,
) -> None:
    """Refuse a model of which nothing can go, and a budget below what must stay."""
    free = [group for group in groups if group.reason is None]
    if not free:
        told = "; ".join(f"'{group.name}': {group.reason}" for group in groups[:3])
        raise ConfigError(f"no channel of the model can be removed ({told}); use another --pattern")
    flag = "--params" if budget.sparsity is None else f"--sparsity {budget.sparsity:g}"
    least = narrowing.least()
    for bound, stays, what, asked in (
        (limits.weights, least[0], "weights", flag),
        (limits.macs, least[1], "MACs", f"--flops {budget.flops or 0:g}"),
    ):
        if bound is None or stays <= bound:
            continue
        floor = f"--min-layer-density {min_layer_density:g}" if min_layer_density else f"{round_to} channels"
        held = f", {len(groups) - len(free)} left whole" if len(free) < len(groups) else ""
        raise ConfigError(
            f"{asked} allows {bound:,} {what}, but {stays:,} stay with at least {floor} in each of {len(groups)} groups"
            f"{held}; lower --round-to or --min-layer-density, keep fewer layers dense, or raise the budget"
        )
