"""From a run's settings to its mask: method, pattern and budget put together, channels first."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ntksap_export.config import RunConfig
from ntksap_export.data import scoring_set
from ntksap_export.errors import ConfigError
from ntksap_export.masks import LayerCost, Mask, Pattern, layer_costs, split_pattern
from ntksap_export.pipeline.choice import Choice
from ntksap_export.pipeline.context import Context
from ntksap_export.pipeline.latency import check_latency, latency_goal
from ntksap_export.pipeline.methods import schedule_of
from ntksap_export.pruning import (
    SCORERS,
    Budget,
    Limits,
    Scorer,
    ScoringInputs,
    check_channels,
    find_limits,
    left_whole,
    make_scorer,
    prune,
    prune_channels,
    resolve_layers,
    shuffled,
)
from ntksap_export.recovery import sampler


def choose_mask(context: Context, latency_table: Path | None = None) -> Choice:
    """The mask of a run's method, pattern, budget and control.

    Args:
        context: of the run.
        latency_table: where the times that a latency is met by are kept; None keeps none.

    Raises:
        ConfigError: a budget that cannot be met; says which bound binds.
        ScoreError: a score is NaN or infinite.
    """
    config = context.config
    channels, pattern = split_pattern(config.pattern)
    inputs = scoring_inputs(context)
    scorer = scorer_of(config)
    model = context.build_dense().to(context.device)
    budget: Budget | None = budget_of(config)
    start = time.perf_counter()
    plan, goal = None, None
    if channels:
        first = first_budget(config, model, context.shape, pattern)
        if first.latency is not None:
            goal = latency_goal(context, context.build_dense(), first, latency_table)
        plan = prune_channels(
            model,
            scorer,
            inputs,
            first,
            scope=config.scope if pattern is None else "global",  # beside a pattern, it is that one's
            rounds=config.rounds,
            keep_dense=config.keep_dense,
            round_to=config.round_to,
            min_layer_density=config.min_layer_density,
            latency=goal,
            progress=context.progress,
        )
        dense, model = model, plan.apply(model)
        budget = second_budget(config, dense, model, context.shape, pattern)
    left: dict[str, str] = {}
    if pattern is None:
        mask = Mask.dense(model)
    else:
        mask = prune(
            model,
            scorer,
            inputs,
            budget,
            pattern=pattern,
            scope=config.scope,
            rounds=config.rounds,
            keep_dense=config.keep_dense,
            min_layer_density=config.min_layer_density,
            progress=context.progress,
        )
        left = left_whole(model, pattern, resolve_layers(model, config.keep_dense))
    seconds = time.perf_counter() - start
    mask = mask.to("cpu")
    mask = shuffled(mask, config.seed, pattern) if config.control == "shuffle" else mask
    return Choice(mask, plan, seconds, left, None if goal is None else goal.reached)


def budget_of(config: RunConfig) -> Budget | None:
    """The budget of a configuration; None where the pattern's own is meant.

    Raises:
        ConfigError: out of range.
    """
    bounds = config.sparsity, config.flops, config.params, config.latency, config.channel_share
    return None if bounds == (None, None, None, None, None) else Budget(*bounds)


@dataclass(frozen=True, slots=True)
class Goals:
    """What a run's budget comes to on its dense network.

    Attributes:
        end: what is met when all is done.
        first: what the schedule of rounds walks to: the channels' part where they go first, else `end`.
        left: layer -> why the pattern leaves it whole.
    """

    end: Limits
    first: Limits
    left: dict[str, str]


def find_goals(context: Context, model: nn.Module) -> Goals:
    """Work out the goals on the dense `model`; early, before anything is written.

    Raises:
        ConfigError: a budget that cannot be met; says which bound binds.
    """
    config, shape = context.config, context.shape
    check_latency(config)
    channels, pattern = split_pattern(config.pattern)
    budget = budget_of(config)
    if not channels:
        end = find_limits(model, shape, budget, pattern, config.scope, config.keep_dense, config.min_layer_density)
        return Goals(end, end, end.left)
    first = first_budget(config, model, shape, pattern)
    limits = check_channels(
        model,
        shape,
        first,
        scorer=make_scorer(config.method) if config.method in SCORERS else None,
        scope=config.scope if pattern is None else "global",
        keep_dense=config.keep_dense,
        round_to=config.round_to,
        min_layer_density=config.min_layer_density,
    )
    # The pattern must fit some layer; whether it fits one of the slim network, its channels decide.
    left = {}
    if pattern is not None:
        asked = resolve_layers(model, config.keep_dense)
        left = left_whole(model, pattern, asked)
        if left or asked:
            _check_freedom(config, pattern)
    return Goals(limits if pattern is None else find_limits(model, shape, budget), limits, left)


def _check_freedom(config: RunConfig, pattern: Pattern) -> None:
    """Refuse n:m after channels where each layer must keep all that n:m leaves it, and some layers more than that.

    The channels are removed to a step of the budget's n:m-th; with nothing to choose among weights, what the whole
    layers have above n:m does not fit any more.
    """
    floor = config.min_layer_density
    if pattern.caps and config.channel_sparsity is None and floor >= pattern.share:
        raise ConfigError(
            f"--min-layer-density {floor:g} leaves nothing to choose within {pattern.name}, which keeps "
            f"{pattern.share:.4g} of a layer, and channels alone do not meet a budget; set it below "
            f"{pattern.share:.4g}, or give --channel-sparsity"
        )


def targets(context: Context, model: nn.Module) -> dict[str, Any]:
    """What a plan says of the budget: weights and FLOPs to keep, layers left whole, shares after each round.

    Where channels go first the shares are theirs; the second pattern's follow from what they leave.

    Raises:
        ConfigError: as `find_goals`.
    """
    goals = find_goals(context, model)
    shares = [share for *_, share in schedule_of(context.config, goals.first)[:-1]]
    return {
        "kept_weights": goals.end.weights,
        "kept_flops": None if goals.end.macs is None else 2 * goals.end.macs,
        "left_whole": goals.left,
        "densities": [*shares, min(goals.first.shares)],
    }


def first_budget(config: RunConfig, model: nn.Module, shape: tuple[int, ...], pattern: Pattern | None) -> Budget:
    """What the channels leave, where a pattern on single weights follows: the final budget is met by both together.

    A latency is the channels' alone: beside it, they are bound by `channel_sparsity` if that is given.

    n:m takes its fixed share, so the channels take the rest: density / (n / m). Otherwise each of the two steps keeps
    the same share: the square root. `channel_sparsity` overrules.

    Raises:
        ConfigError: n:m alone already goes below the budget, or `channel_sparsity` does.
    """
    budget = budget_of(config)
    assert budget is not None
    if pattern is None:
        return budget
    costs = layer_costs(model, shape)
    total = sum(cost.weights for cost in costs)
    weights = budget.weights(total)
    density = None if weights is None else weights / total
    if config.channel_sparsity is not None:
        if density is not None and 1 - config.channel_sparsity < density:
            raise ConfigError(
                f"--channel-sparsity {config.channel_sparsity:g} leaves fewer weights than the budget ({density:.2%})"
            )
        return Budget(config.channel_sparsity, latency=budget.latency)
    if budget.latency is not None:
        return Budget(latency=budget.latency)
    first = {name: _first_share(share, pattern) for name, share in (("w", density), ("f", budget.flops)) if share}
    return Budget(1 - first["w"] if "w" in first else None, first.get("f"))


def _first_share(share: float, pattern: Pattern) -> float:
    if not pattern.caps:
        return math.sqrt(share)
    if share > pattern.share:
        raise ConfigError(
            f"pattern {pattern.name} alone keeps {pattern.share:.0%}; a budget of {share:.2%} leaves nothing for "
            f"channels to do. Use --pattern {pattern.name}, or ask for less"
        )
    return share / pattern.share


def second_budget(
    config: RunConfig, dense: nn.Module, slim: nn.Module, shape: tuple[int, ...], pattern: Pattern | None
) -> Budget | None:
    """What is left of the budget for the weights of the slim network; None if its pattern alone meets it."""
    budget = budget_of(config)
    if pattern is None or budget is None or (config.sparsity, config.flops, config.params) == (None, None, None):
        return None
    before, after = layer_costs(dense, shape), layer_costs(slim, shape)
    weights = budget.weights(sum(cost.weights for cost in before))
    macs = budget.macs(sum(cost.macs for cost in before))
    whole = resolve_layers(dense, config.keep_dense)
    most = {cost.name: cost.weights if cost.name in whole else _most(cost, pattern) for cost in after}
    most_macs = sum(most[cost.name] * cost.positions for cost in after)
    keep = None if weights is None or weights >= sum(most.values()) else weights
    share = None if macs is None or macs >= most_macs else macs / sum(cost.macs for cost in after)
    if keep is None and share is None:
        return None if pattern.caps else Budget(params=sum(most.values()))
    return Budget(flops=share, params=keep)


def _most(cost: LayerCost, pattern: Pattern) -> int:
    return cost.weights if pattern.misfit(torch.Size(cost.shape)) else pattern.most(cost.weights)


def scorer_of(config: RunConfig) -> Scorer:
    """What gives the scores.

    Raises:
        ConfigError: there is no such method.
    """
    return make_scorer(config.method, epsilon=config.epsilon, draws=config.draws, sampler=sampler(config.init))


def scoring_inputs(context: Context) -> ScoringInputs:
    """What scores are made with: noise, or images of the run's data."""
    config = context.config
    assert config.score_batch_size is not None
    assert config.score_batches is not None
    data = None
    if SCORERS[config.method].needs_data:
        data = scoring_set(context.data(), config.score_batches * config.score_batch_size, config.seed)
    return ScoringInputs(context.shape, config.score_batch_size, config.score_batches, config.seed, data)
