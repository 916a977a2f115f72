"""From a run's settings to its mask: method, pattern and budget put together, channels first."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ntksap_export.config import RunConfig
from ntksap_export.data import scoring_set
from ntksap_export.errors import ConfigError
from ntksap_export.masks import LayerCost, Mask, NofM, Pattern, layer_costs, split_pattern
from ntksap_export.pipeline.context import Context
from ntksap_export.pruning import (
    SCORERS,
    Budget,
    ChannelPlan,
    Scorer,
    ScoringInputs,
    check_channels,
    find_limits,
    make_scorer,
    prune,
    prune_channels,
    resolve_layers,
    shuffled,
)


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen.

    Attributes:
        mask: of the network that is trained, on the CPU, the control applied.
        plan: the channels that were removed first, or None; `mask` is of the network that it leaves.
        seconds: that choosing took.
        left: layer -> why the pattern leaves it whole.
    """

    mask: Mask
    plan: ChannelPlan | None
    seconds: float
    left: dict[str, str]

    def on_dense(self, model: nn.Module) -> Mask:
        """The mask in the coordinates of the dense `model`: removed channels are pruned weights there."""
        return self.mask if self.plan is None else lift(self.mask, self.plan.mask(model))


def choose_mask(context: Context) -> Choice:
    """The mask of a run's method, pattern, budget and control.

    Raises:
        ConfigError: a budget that cannot be met; says which bound binds.
        ScoreError: a score is NaN or infinite.
    """
    config = context.config
    channels, pattern = split_pattern(config.pattern)
    inputs = _inputs(context)
    scorer = make_scorer(config.method, epsilon=config.epsilon, draws=config.draws)
    model = context.build_dense().to(context.device)
    budget: Budget | None = budget_of(config)
    start = time.perf_counter()
    plan = None
    if channels:
        assert budget is not None
        plan = prune_channels(
            model,
            scorer,
            inputs,
            first_budget(config, model, context.shape, pattern),
            rounds=config.rounds,
            keep_dense=config.keep_dense,
            round_to=config.round_to,
            min_layer_density=config.min_layer_density,
            progress=context.progress,
        )
        dense, model = model, plan.apply(model)
        budget = second_budget(config, dense, model, context.shape, pattern)
    left: dict[str, str] = {}
    if channels and pattern is None:
        mask = Mask.dense(model)
    else:
        mask, left = _weights(context, model, scorer, inputs, budget, pattern)
    seconds = time.perf_counter() - start
    mask = mask.to("cpu")
    return Choice(shuffled(mask, config.seed, pattern) if config.control == "shuffle" else mask, plan, seconds, left)


def _weights(
    context: Context, model: nn.Module, scorer: Scorer, inputs: ScoringInputs, budget: Budget | None, pattern: Any
) -> tuple[Mask, dict[str, str]]:
    config = context.config
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
    return mask, find_limits(model, context.shape, budget, pattern, keep_dense=config.keep_dense).left


def budget_of(config: RunConfig) -> Budget | None:
    """The budget of a configuration; None where the pattern's own is meant.

    Raises:
        ConfigError: out of range.
    """
    if config.sparsity is None and config.flops is None and config.params is None:
        return None
    return Budget(config.sparsity, config.flops, config.params)


def check_budget(context: Context) -> None:
    """Refuse early, before anything is written, what could not be met.

    Raises:
        ConfigError: says which bound binds.
    """
    config = context.config
    channels, pattern = split_pattern(config.pattern)
    model = context.build_dense()
    if channels:
        check_channels(
            model,
            context.shape,
            first_budget(config, model, context.shape, pattern),
            keep_dense=config.keep_dense,
            round_to=config.round_to,
            min_layer_density=config.min_layer_density,
        )
        if pattern is not None:  # it must fit some layer; whether the budget can be met depends on the channels
            find_limits(model, context.shape, None if pattern.caps else Budget(0.0), pattern, config.scope)
    else:
        find_limits(
            model,
            context.shape,
            budget_of(config),
            pattern,
            config.scope,
            config.keep_dense,
            config.min_layer_density,
        )


def targets(context: Context) -> dict[str, Any]:
    """What a plan says of the budget: weights and FLOPs to keep, layers left whole, shares after each round.

    Where channels go first the shares are theirs; the second pattern's follow from what they leave.
    """
    config = context.config
    assert config.rounds is not None
    channels, pattern = split_pattern(config.pattern)
    model, budget = context.build_dense(), budget_of(config)
    left = {}
    if pattern is not None:
        left = find_limits(model, context.shape, None if pattern.caps else Budget(0.0), pattern).left
    ends = find_limits(model, context.shape, budget, None if channels else pattern, keep_dense=config.keep_dense)
    first = find_limits(model, context.shape, first_budget(config, model, context.shape, pattern)) if channels else ends
    shares = [share for *_, share in first.schedule(config.rounds)[:-1]]
    return {
        "kept_weights": ends.weights,
        "kept_flops": None if ends.macs is None else 2 * ends.macs,
        "left_whole": left,
        "densities": [*shares, min(first.shares)],
    }


def first_budget(config: RunConfig, model: nn.Module, shape: tuple[int, ...], pattern: Pattern | None) -> Budget:
    """What the channels leave, where a pattern on single weights follows: the final budget is met by both together.

    n:m takes its fixed share, so the channels take the rest: density / (n / m). Otherwise each of the two steps keeps
    the same share: the square root. `channel_sparsity` overrules.

    Raises:
        ConfigError: n:m alone already goes below the budget, or `channel_sparsity` above it.
    """
    budget = budget_of(config)
    assert budget is not None
    if pattern is None:
        if config.channel_sparsity is not None:
            raise ConfigError("--channel-sparsity belongs to channel+...; for --pattern channel give --sparsity")
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
        return Budget(config.channel_sparsity)
    first = {name: _first_share(share, pattern) for name, share in (("w", density), ("f", budget.flops)) if share}
    return Budget(1 - first["w"] if "w" in first else None, first.get("f"))


def _first_share(share: float, pattern: Pattern) -> float:
    if not isinstance(pattern, NofM):
        return math.sqrt(share)
    own = pattern.n / pattern.m
    if share > own:
        raise ConfigError(
            f"pattern {pattern.name} alone keeps {own:.0%}; a budget of {share:.2%} leaves nothing for channels to do. "
            f"Use --pattern {pattern.name}, or ask for less"
        )
    return share / own


def second_budget(
    config: RunConfig, dense: nn.Module, slim: nn.Module, shape: tuple[int, ...], pattern: Pattern | None
) -> Budget | None:
    """What is left of the budget for the weights of the slim network; None if its pattern alone meets it."""
    budget = budget_of(config)
    if pattern is None or budget is None:
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


def lift(mask: Mask, channels: Mask) -> Mask:
    """A slim network's mask in the coordinates of the dense one, of which `channels` keeps whole rows and columns."""
    lifted = {}
    for name, kept in channels.items():
        lifted[name] = torch.zeros_like(kept)
        lifted[name][kept] = mask[name].flatten().to(kept.device)  # both in row-major order
    return Mask(lifted)


def _inputs(context: Context) -> ScoringInputs:
    config = context.config
    assert config.score_batch_size is not None
    assert config.score_batches is not None
    data = None
    if SCORERS[config.method].needs_data:
        data = scoring_set(context.data(), config.score_batches * config.score_batch_size, config.seed)
    return ScoringInputs(context.shape, config.score_batch_size, config.score_batches, config.seed, data)
