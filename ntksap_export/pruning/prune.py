"""Score, select, repeat: from a network, freshly initialized or trained, to a mask."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import nn

from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask
from ntksap_export.masks.patterns import Pattern
from ntksap_export.progress import Progress, Silent
from ntksap_export.pruning.budget import Budget
from ntksap_export.pruning.distributed import check_same, of_main
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.pruning.limits import find_limits
from ntksap_export.pruning.scorers import Scorer, judges_filters
from ntksap_export.pruning.select import select, select_towards


def prune(
    model: nn.Module,
    scorer: Scorer,
    inputs: ScoringInputs,
    budget: Budget | None = None,
    *,
    pattern: Pattern | None = None,
    scope: str = "global",
    rounds: int | None = None,
    round_share: float | None = None,
    keep_dense: Iterable[str] = (),
    min_layer_density: float = 0.0,
    progress: Progress | None = None,
    on_round: Callable[[int, Mask], None] | None = None,
) -> Mask:
    """Choose which weights of `model` live, before it is trained or after.

    Args:
        model: left exactly as found: parameters, buffers, modes. Its device is where scoring runs.
        scorer: the method.
        inputs: shape, number and seed of the scoring batches.
        budget: what the mask must meet, over all prunable weights; None with an n:m pattern takes the pattern's own.
        pattern: which weights live and die together; None is unstructured. For channels see `prune_channels`.
        scope: `global` compares scores over all layers, `layer` keeps the same share of each.
        rounds: score-and-mask steps on an exponential schedule; None takes the method's own number.
        round_share: instead of `rounds`: each round removes this share of what is left, rounded down, and the last what
            the budget asks.
        keep_dense: layers that stay whole; a layer's name with or without `.weight`. They count in the budget.
        min_layer_density: each layer keeps at least this share of its weights.
        progress: where the rounds are shown.
        on_round: called with the round (from 1) and its mask.

    Returns:
        A mask that keeps exactly the budget's number of weights (to one block for block patterns), or, under a FLOP
        budget, as many MACs as fit: less than one weight of the cheapest layer that is not full goes unused.

    Raises:
        ConfigError: nothing is prunable, an unknown layer, a scorer of whole filters, or a budget that cannot be met;
            says which bound binds.
        ScoreError: a score is NaN or infinite.
    """
    if judges_filters(scorer):
        raise ConfigError("this method judges whole filters, not single weights; use prune_channels, or another method")
    if budget is not None and budget.channels is not None:
        raise ConfigError("a share of channels is met by removing channels; use prune_channels, or give a sparsity")
    limits = find_limits(model, inputs.shape, budget, pattern, scope, keep_dense, min_layer_density)
    if round_share is None:
        schedule = limits.schedule(scorer.default_rounds if rounds is None else rounds)
    else:
        schedule = limits.schedule_removing(round_share)
    whole = mask = Mask.dense(model)
    with (progress or Silent()).task("prune", len(schedule)) as task:
        for index, (weights, macs, share) in enumerate(schedule):
            scores = scorer.score(model, mask, inputs, index)
            alive = whole if scorer.revives else mask
            if index < len(schedule) - 1:
                end = limits.weights, limits.macs
                mask = select_towards(scores, alive, limits.rules, (weights, macs, share), end)
            else:
                mask = select(scores, alive, limits.rules, weights, macs)
            mask = of_main(mask)
            task.advance(note=f"density {mask.density:.4f}")
            if on_round is not None:
                on_round(index + 1, mask)
    check_same(mask.digest())
    return mask
