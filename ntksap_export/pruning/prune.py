"""Score, select, repeat: from a freshly initialized network to a mask."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable

from torch import nn

from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask, prunable_names
from ntksap_export.progress import Progress, Silent
from ntksap_export.pruning.budget import Budget, exponential_densities
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.pruning.scorers import Scorer
from ntksap_export.pruning.select import keep_best


def prune(
    model: nn.Module,
    scorer: Scorer,
    inputs: ScoringInputs,
    budget: Budget,
    *,
    rounds: int | None = None,
    keep_dense: Iterable[str] = (),
    progress: Progress | None = None,
    on_round: Callable[[int, Mask], None] | None = None,
) -> Mask:
    """Choose which weights of `model` live, before it is trained.

    Args:
        model: left exactly as found: parameters, buffers, modes. Its device is where scoring runs.
        scorer: the method.
        inputs: shape, number and seed of the scoring batches.
        budget: what the mask must meet, over all prunable weights.
        rounds: score-and-mask steps on an exponential schedule; None takes the method's own number.
        keep_dense: layers that stay whole; a layer's name with or without `.weight`. They count in the budget.
        progress: where the rounds are shown.
        on_round: called with the round (from 1) and its mask.

    Returns:
        A mask that keeps exactly `budget.kept(total)` weights.

    Raises:
        ConfigError: nothing is prunable, an unknown `keep_dense`, or a budget below what must stay.
        ScoreError: a score is NaN or infinite.
    """
    whole = mask = Mask.dense(model)
    if not mask:
        raise ConfigError("the model has no Conv2d or Linear weight to prune")
    dense = resolve_keep_dense(model, keep_dense, budget)
    steps = exponential_densities(budget.density, scorer.default_rounds if rounds is None else rounds)
    total = mask.total
    with (progress or Silent()).task("prune", len(steps)) as task:
        for index, density in enumerate(steps):
            keep = budget.kept(total) if index == len(steps) - 1 else max(1, round(total * density))
            scores = scorer.score(model, mask, inputs, index)
            mask = keep_best(scores, whole if scorer.revives else mask, keep, dense)
            task.advance(note=f"density {mask.density:.4f}")
            if on_round is not None:
                on_round(index + 1, mask)
    return mask


def resolve_keep_dense(model: nn.Module, asked: Iterable[str], budget: Budget) -> frozenset[str]:
    """The full parameter names of the layers that are to stay whole.

    Raises:
        ConfigError: a name that is not a prunable layer (near ones are suggested), or more weights than the budget.
    """
    names = prunable_names(model)
    layers = {name.removesuffix(".weight"): name for name in names}
    resolved = set()
    for name in asked:
        layer = name.removesuffix(".weight")
        if layer not in layers:
            near = difflib.get_close_matches(layer, layers, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else "see the layer table of --dry-run"
            raise ConfigError(f"--keep-dense: no prunable layer '{name}'; {hint}")
        resolved.add(layers[layer])
    parameters = dict(model.named_parameters())
    fixed = sum(parameters[name].numel() for name in resolved)
    keep = budget.kept(sum(parameters[name].numel() for name in names))
    if fixed > keep:
        raise ConfigError(
            f"--keep-dense keeps {fixed:,} weights, the budget allows {keep:,}; lower --sparsity or keep fewer"
        )
    return frozenset(resolved)
