"""A budget and its rules turned into numbers for one network, and refused early where they contradict each other."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from ntksap_export.errors import ConfigError
from ntksap_export.masks import layer_costs, prunable_names
from ntksap_export.masks.patterns import Pattern, Unstructured
from ntksap_export.pruning.budget import Budget, exponential_shares
from ntksap_export.pruning.select import SCOPES, Rules, floor_units
from ntksap_export.ranges import check_share


@dataclass(frozen=True, slots=True)
class Limits:
    """What a mask of one network has to meet.

    Attributes:
        rules: pattern, scope, floors, layers that stay whole, by full parameter names.
        weights: to keep, at the end; None if only MACs are bounded.
        macs: of one image to keep at most, at the end; None if only weights are bounded.
        total_weights: prunable weights of the dense network.
        total_macs: its multiply-accumulates for one image; 0 if no FLOP budget asked for them.
        own: whether the pattern's own share is the budget: then nothing but the pattern prunes, in any round.
        shares: the two budgets as shares of the dense network, where the schedule of rounds ends.
        left: layer name -> why the pattern leaves it whole.
    """

    rules: Rules
    weights: int | None
    macs: int | None
    total_weights: int
    total_macs: int
    own: bool
    shares: tuple[float, float]
    left: dict[str, str]

    def schedule(self, rounds: int) -> tuple[tuple[int | None, int | None, float], ...]:
        """Per round: weights, MACs, and the share of the tighter one, 0 in the last; exponential between."""
        shares_of_weights, shares_of_macs = (exponential_shares(share, rounds) for share in self.shares)
        steps: list[tuple[int | None, int | None, float]] = []
        for by_weights, by_macs in zip(shares_of_weights[:-1], shares_of_macs[:-1], strict=True):
            weights = None if self.weights is None or self.own else max(1, round(self.total_weights * by_weights))
            macs = None if self.macs is None else max(1, round(self.total_macs * by_macs))
            steps.append((weights, macs, min(by_weights, by_macs)))
        return (*steps, (self.weights, self.macs, 0.0))

    def schedule_removing(self, share: float) -> tuple[tuple[int | None, int | None, float], ...]:
        """As `schedule`, for rounds that each remove `share` of what is left, rounded down; the last what is asked.

        Raises:
            ConfigError: a share outside (0, 1).
        """
        if not 0 < share < 1:
            raise ConfigError(f"round-share must be in (0, 1); got {share:g}")
        # What has no bound stands at 0 from the start.
        end = (self.weights or 0, self.macs or 0)
        weights, macs = self.total_weights * bool(end[0]), self.total_macs * bool(end[1])
        steps: list[tuple[int | None, int | None, float]] = []
        while (now := (_without(share, weights, end[0]), _without(share, macs, end[1]))) != end:
            weights, macs = now
            tighter = min(now[0] / self.total_weights if end[0] else 1.0, now[1] / self.total_macs if end[1] else 1.0)
            steps.append((None if self.weights is None or self.own else weights, macs if end[1] else None, tighter))
        return (*steps, (self.weights, self.macs, 0.0))


def _without(share: float, left: int, end: int) -> int:
    """What a round leaves of `left`, not below `end`."""
    return max(end, left - max(1, math.floor(share * left + 1e-9)))


def find_limits(
    model: nn.Module,
    shape: tuple[int, ...],
    budget: Budget | None,
    pattern: Pattern | None = None,
    scope: str = "global",
    keep_dense: Iterable[str] = (),
    min_layer_density: float = 0.0,
) -> Limits:
    """Work out what a mask of `model` has to meet.

    Args:
        model: untouched.
        shape: (C, H, W) of its input; used for a FLOP budget only.
        budget: None takes what the pattern itself keeps, which only n:m has.
        pattern: None is unstructured.
        scope: `global` or `layer`.
        keep_dense: layers that stay whole; a layer's name with or without `.weight`.
        min_layer_density: share of its weights that each layer keeps at least, in [0, 1].

    Raises:
        ConfigError: nothing to prune, weights that cannot be scored, an unknown layer, or a budget that cannot be met;
            says which bound binds.
    """
    pattern = pattern or Unstructured()
    sizes = _prunable_sizes(model)
    if budget is None and not pattern.caps:
        raise ConfigError(f"pattern {pattern.name} has no share of its own; give a Budget")
    if scope not in SCOPES:
        raise ConfigError(f"scope must be global or layer; got '{scope}'")
    check_share("min-layer-density", min_layer_density)
    asked = resolve_layers(model, keep_dense)
    left = left_whole(model, pattern, asked)
    whole = asked | {f"{layer}.weight" for layer in left}
    positions = {}
    if budget is not None and budget.flops is not None:
        positions = {cost.name: cost.positions for cost in layer_costs(model, shape)}
    rules = Rules(pattern, scope, frozenset(whole), min_layer_density, positions)
    total = sum(sizes.values())
    total_macs = sum(size * positions.get(name, 0) for name, size in sizes.items())
    highest = {name: size if name in whole else pattern.most(size) for name, size in sizes.items()}
    weights = sum(highest.values()) if budget is None else budget.weights(total)
    macs = None if budget is None else budget.macs(total_macs)
    limits = Limits(rules, weights, macs, total, total_macs, budget is None, _shares(budget, weights, total), left)
    _check(limits, budget, sizes, highest, asked)
    return limits


def left_whole(model: nn.Module, pattern: Pattern, asked: Collection[str] = ()) -> dict[str, str]:
    """Layer name -> why `pattern` leaves it whole; not for the layers that are `asked` to stay, by parameter name.

    Raises:
        ConfigError: the pattern fits no layer.
    """
    parameters, names = dict(model.named_parameters()), prunable_names(model)
    misfits = {name: pattern.misfit(parameters[name].shape) for name in names if name not in asked}
    left = {name.removesuffix(".weight"): reason for name, reason in misfits.items() if reason}
    if left and len(left) == len(names):
        raise ConfigError(f"no layer fits the pattern {pattern.name}: {next(iter(left.values()))}, for one")
    return left


def resolve_layers(model: nn.Module, asked: Iterable[str]) -> frozenset[str]:
    """The full parameter names of the layers of `--keep-dense`.

    Raises:
        ConfigError: a name that is no prunable layer; near ones are suggested.
    """
    if isinstance(asked, str):
        asked = (asked,)
    layers = {name.removesuffix(".weight"): name for name in prunable_names(model)}
    resolved = set()
    for name in asked:
        layer = name.removesuffix(".weight")
        if layer not in layers:
            near = difflib.get_close_matches(layer, layers, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else "see the layer table of --dry-run"
            raise ConfigError(f"--keep-dense: no prunable layer '{name}'; {hint}")
        resolved.add(layers[layer])
    return frozenset(resolved)


def _shares(budget: Budget | None, weights: int | None, total: int) -> tuple[float, float]:
    """Density and FLOP density at the end; what is not bounded counts as 1."""
    if budget is None:
        return (weights or total) / total, 1.0
    density = 1.0 if weights is None else weights / total
    return density if budget.sparsity is None else 1.0 - budget.sparsity, budget.flops or 1.0


def _prunable_sizes(model: nn.Module) -> dict[str, int]:
    parameters = dict(model.named_parameters())
    names = prunable_names(model)
    if not names:
        raise ConfigError("the model has no Conv2d or Linear weight to prune")
    for name in names:
        if parameters[name].dtype not in (torch.float32, torch.float64):
            raise ConfigError(
                f"the weights of '{name}' are {str(parameters[name].dtype).removeprefix('torch.')}, too coarse to "
                "score; prune model.float() and convert afterwards"
            )
    return {name: parameters[name].numel() for name in names}


def _check(
    limits: Limits, budget: Budget | None, sizes: dict[str, int], highest: dict[str, int], asked: frozenset[str]
) -> None:
    """Refuse a budget below what must stay, or above what the pattern lets live."""
    rules = limits.rules
    size = rules.pattern.unit_size
    lowest = {
        name: weights if name in rules.whole else min(floor_units(weights, rules) * size, highest[name])
        for name, weights in sizes.items()
    }
    positions = rules.positions
    bounds = []
    if limits.weights is not None:
        bounds.append((limits.weights, dict.fromkeys(sizes, 1), "weights", _remedy(budget)))
    if limits.macs is not None:
        bounds.append((limits.macs, {name: positions.get(name, 0) for name in sizes}, "MACs", "raise --flops"))
    for bound, price, what, remedy in bounds:
        least = sum(lowest[name] * price[name] for name in sizes)
        if least > bound:
            binding = _binding(limits, lowest, price, asked)
            raise ConfigError(f"{binding} {least:,} {what}, the budget allows {bound:,}; {remedy} or keep fewer")
    most = sum(highest.values())
    weights_bind = limits.weights is not None and limits.weights > most
    macs_bind = limits.macs is not None and limits.macs > sum(highest[name] * positions.get(name, 0) for name in sizes)
    if (weights_bind and (limits.macs is None or macs_bind)) or (macs_bind and limits.weights is None):
        kept = f"{most:,} of {limits.total_weights:,} weights"
        raise ConfigError(
            f"pattern {rules.pattern.name} lets at most {kept} live, less than the budget asks for; "
            "leave the budget away to take that, or ask for less"
        )


def _binding(limits: Limits, lowest: dict[str, int], price: dict[str, int], asked: frozenset[str]) -> str:
    """The words for the bound that takes most."""
    by_hand = sum(lowest[name] * price[name] for name in asked)
    by_pattern = sum(lowest[name] * price[name] for name in limits.rules.whole - asked)
    rest = sum(lowest[name] * price[name] for name in lowest if name not in limits.rules.whole)
    if rest >= max(by_hand, by_pattern):
        return f"--min-layer-density {limits.rules.min_layer_density:g} keeps"
    if by_hand >= by_pattern:
        return "--keep-dense keeps"
    count = len(limits.left)
    return f"pattern {limits.rules.pattern.name} leaves {count} layer(s) whole and so keeps"


def _remedy(budget: Budget | None) -> str:
    return "lower --sparsity" if budget is not None and budget.sparsity is not None else "raise the budget"
