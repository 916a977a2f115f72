"""From scores to a mask that meets its bounds exactly."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from ntksap_export.errors import ConfigError, ScoreError
from ntksap_export.masks import Mask
from ntksap_export.masks.patterns import Pattern, Unstructured
from ntksap_export.pruning.allocate import Candidates, allocate, allocate_evenly

SCOPES = ("global", "layer")


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds in every round, beside the budget.

    Attributes:
        pattern: which weights live and die together.
        scope: `global` compares scores over all layers; `layer` keeps the same share of each.
        whole: names whose weights all stay, whatever they score; they count in the budget.
        min_layer_density: each layer keeps at least this share of its weights, in [0, 1].
        positions: per name, output positions at which a weight is used; only a FLOP budget needs it.
    """

    pattern: Pattern = field(default_factory=Unstructured)
    scope: str = "global"
    whole: frozenset[str] = frozenset()
    min_layer_density: float = 0.0
    positions: Mapping[str, int] = field(default_factory=dict)


def keep_best(scores: Mapping[str, torch.Tensor], mask: Mask, keep: int, keep_dense: Collection[str] = ()) -> Mask:
    """The mask that keeps exactly `keep` weights: the highest-scored of those that `mask` still keeps, globally.

    Args:
        scores: name -> tensor of the mask's shape; higher = keep.
        mask: what is alive now; nothing that it prunes comes back.
        keep: weights to keep, counted over all tensors of `mask`.
        keep_dense: names whose weights all stay, whatever they score; they count towards `keep`.

    Raises:
        ScoreError: a score is NaN or infinite; names the layer.
        ConfigError: the weights that stay dense already exceed `keep`.
    """
    return select(scores, mask, Rules(whole=frozenset(keep_dense)), weights=keep)


def select(
    scores: Mapping[str, torch.Tensor],
    mask: Mask,
    rules: Rules,
    weights: int | None = None,
    macs: int | None = None,
    share: float = 0.0,
) -> Mask:
    """The mask of highest kept score among what `mask` still keeps, within `rules` and both bounds.

    Equal scores are chosen among in a fixed pseudo-random order, so that all-zero scores, say, neither favour the
    first layers nor change from run to run.

    Args:
        scores: name -> tensor of the mask's shape; higher = keep.
        mask: what is alive now; nothing that it prunes comes back.
        rules: pattern, scope, floors.
        weights: to keep, counted over all tensors of `mask`; met to one unit of the pattern unless `macs` binds.
        macs: multiply-accumulates of one image to keep at most, counted over all tensors of `mask`.
        share: where the schedule of rounds stands, for patterns that tighten with it; 0 is the end.

    Raises:
        ScoreError: a score is NaN or infinite; names the layer.
        ConfigError: what must stay already exceeds a bound.
    """
    check_finite(scores, mask)
    return _select(scores, mask, rules, weights, macs, share)


def _select(
    scores: Mapping[str, torch.Tensor],
    mask: Mask,
    rules: Rules,
    weights: int | None,
    macs: int | None,
    share: float = 0.0,
) -> Mask:
    """`select` on scores that are known to be finite."""
    free = [name for name in mask if name not in rules.whole]
    kept = {name: int(mask[name].sum()) for name in mask if name in rules.whole}
    left = None if weights is None else weights - sum(kept.values())
    whole_macs = sum(count * rules.positions.get(name, 0) for name, count in kept.items())
    left_macs = None if macs is None else macs - whole_macs
    if left is not None and weights is not None and left < 0:
        raise ConfigError(
            f"--keep-dense keeps {weights - left:,} weights, the budget allows {weights:,}; "
            "lower --sparsity or keep fewer"
        )
    units = {name: _Units.of(scores[name], mask[name], rules.pattern, share) for name in free}
    layers = [_candidates(units[name], name, rules) for name in free]
    choose = allocate if rules.scope == "global" else allocate_evenly
    counts = dict(zip(free, choose(layers, left, left_macs), strict=True))
    ascending = dict(zip(free, (layer.scores for layer in layers), strict=True))
    return Mask(
        {
            name: units[name].best(counts[name], ascending[name], rules.pattern, mask[name].shape)
            if name in units
            else mask[name].clone()
            for name in mask
        }
    )


def select_towards(
    scores: Mapping[str, torch.Tensor],
    mask: Mask,
    rules: Rules,
    now: tuple[int | None, int | None, float],
    end: tuple[int | None, int | None],
) -> Mask:
    """As `select` for a round before the last, but so that the end can still be met exactly.

    A pattern that caps each group (n:m) leaves groups short if rounds empty others: what would be chosen if this were
    the last round is kept first, and the rest of the round's bounds filled up after it.

    Args:
        scores: name -> tensor of the mask's shape.
        mask: what is alive now.
        rules: pattern, scope, floors.
        now: the round's weights, MACs and share of the schedule.
        end: the last round's weights and MACs.

    Raises:
        ScoreError, ConfigError: as `select`.
    """
    weights, macs, share = now
    if not rules.pattern.caps or (weights is None and macs is None):
        return select(scores, mask, rules, weights, macs, share)
    check_finite(scores, mask)
    final = _select(scores, mask, rules, *end)
    used = sum(int(kept.sum()) * rules.positions.get(name, 0) for name, kept in final.items())
    rest = {}
    for name, kept in mask.items():
        may = kept if name in rules.whole else rules.pattern.allowed(scores[name], kept, share)
        rest[name] = may & ~final[name]
    more = _select(
        scores,
        Mask(rest),
        Rules(scope=rules.scope, positions=rules.positions),
        None if weights is None else max(0, weights - final.kept),
        None if macs is None else max(0, macs - used),
    )
    return Mask({name: final[name] | more[name] for name in mask})


def check_finite(scores: Mapping[str, torch.Tensor], names: Collection[str]) -> None:
    """Refuse scores that cannot be compared.

    Raises:
        ScoreError: a score is NaN or infinite; names the layer.
    """
    for name in names:
        if not bool(torch.isfinite(scores[name]).all()):
            raise ScoreError(f"the score of '{name}' has NaN or infinite values; try another --seed or --method")


def floor_units(weights: int, rules: Rules) -> int:
    """Units that a layer of so many weights keeps at least."""
    return int(np.ceil(rules.min_layer_density * (weights // rules.pattern.unit_size) - 1e-9))


@dataclass(frozen=True, slots=True)
class _Units:
    """One layer's units, flat: their scores, and which may be kept."""

    scores: torch.Tensor
    alive: torch.Tensor

    @classmethod
    def of(cls, scores: torch.Tensor, mask: torch.Tensor, pattern: Pattern, share: float) -> _Units:
        alive = pattern.allowed(scores, mask, share)
        return cls(pattern.pool(scores), pattern.pool(alive) > 0)

    def ascending(self) -> np.ndarray:
        candidates = self.scores if bool(self.alive.all()) else self.scores[self.alive]
        return np.sort(candidates.detach().cpu().numpy())

    def best(self, count: int, ascending: np.ndarray, pattern: Pattern, shape: torch.Size) -> torch.Tensor:
        """The mask of the layer's `count` best units."""
        if count == len(ascending):
            return pattern.spread(self.alive, shape)
        if count == 0:
            return torch.zeros(shape, dtype=torch.bool, device=self.alive.device)
        threshold = float(ascending[-count])
        kept = (self.scores > threshold) & self.alive
        tied = ((self.scores == threshold) & self.alive).nonzero().squeeze(1)
        order = torch.randperm(tied.numel(), generator=torch.Generator().manual_seed(0))
        kept[tied[order[: count - int(kept.sum())].to(tied.device)]] = True
        return pattern.spread(kept, shape)


def _candidates(units: _Units, name: str, rules: Rules) -> Candidates:
    ascending = units.ascending()
    size = rules.pattern.unit_size
    floor = min(floor_units(units.alive.numel() * size, rules), len(ascending))
    return Candidates(ascending, size, size * rules.positions.get(name, 0), floor)
