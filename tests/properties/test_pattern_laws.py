"""Laws of every method with every pattern and budget: exact, nested, repeatable, and the pattern really holds."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch

from ntksap_export.errors import ConfigError
from ntksap_export.masks import Block, Mask, NofM, Pattern, Unstructured, layer_costs, mask_table
from ntksap_export.pruning import SCORERS, Budget, ScoringInputs, find_limits, make_scorer, prune, shuffled

from ..support.nets import block_net

SHAPE = (3, 8, 8)
COSTS = layer_costs(block_net(), SHAPE)
TOTAL = sum(cost.weights for cost in COSTS)
MACS = sum(cost.macs for cost in COSTS)
STEM = 8 * 3 * 9
METHODS = [name for name, entry in SCORERS.items() if not entry.filters]
PATTERNS = (Unstructured(), NofM(2, 4), NofM(1, 4), Block(4, 1), Block(1, 8), Block(2, 2))


def inputs(seed: int = 3) -> ScoringInputs:
    generator = torch.Generator().manual_seed(seed)
    data = torch.randn(4, *SHAPE, generator=generator), torch.arange(4)
    return ScoringInputs(SHAPE, batch_size=4, seed=seed, data=data)


def unit_price(pattern: Pattern) -> int:
    """The dearest unit of a layer that the pattern fits: what a budget may miss by at most."""
    shapes = {cost.name: torch.Size(cost.shape) for cost in COSTS}
    return max(cost.positions for cost in COSTS if pattern.misfit(shapes[cost.name]) is None) * pattern.unit_size


def holds(pattern: Pattern, kept: torch.Tensor) -> bool:
    """Whether a layer's mask follows the pattern, found without the pattern's own code."""
    if pattern.misfit(kept.shape) is not None:
        return bool(kept.all())
    if isinstance(pattern, NofM):
        rows = kept.transpose(0, 1).flatten(1).T.reshape(-1, pattern.m)  # neighbours along the input channels
        return int(rows.sum(1).max()) <= pattern.n
    if isinstance(pattern, Block):
        for first in range(0, kept.shape[0], pattern.out):
            for start in range(0, kept.shape[1], pattern.into):
                block = kept[first : first + pattern.out, start : start + pattern.into].flatten(0, 1)
                if not bool((block == block[0]).all()):
                    return False
    return True


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
@pytest.mark.parametrize("name", METHODS)
def test_the_pattern_holds_the_count_is_exact_and_rounds_are_nested(name: str, pattern: Pattern) -> None:
    scorer, model = make_scorer(name), block_net()
    before = copy.deepcopy(model.state_dict())
    random_state = torch.get_rng_state()
    rounds: list[Mask] = []

    mask = prune(
        model, scorer, inputs(), Budget(0.8), pattern=pattern, rounds=3, on_round=lambda _, one: rounds.append(one)
    )

    target = Budget(0.8).weights(TOTAL)
    assert target is not None
    assert 0 <= target - mask.kept < pattern.unit_size
    assert all(holds(pattern, mask[cost.name]) for cost in COSTS)
    if not scorer.revives:
        assert all(not bool((later[n] & ~earlier[n]).any()) for earlier, later in pairwise(rounds) for n in mask)
    again = prune(model, scorer, inputs(), Budget(0.8), pattern=pattern, rounds=3)
    assert mask.same_as(again)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.training
    assert torch.equal(random_state, torch.get_rng_state())


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
@pytest.mark.parametrize("name", METHODS)
def test_a_flop_budget_is_met_to_one_unit(name: str, pattern: Pattern) -> None:
    mask = prune(block_net(), make_scorer(name), inputs(), Budget(flops=0.5), pattern=pattern, rounds=2)

    assert 0 <= 0.5 * MACS - mask_table(mask, COSTS).kept_macs < unit_price(pattern)
    assert all(holds(pattern, mask[cost.name]) for cost in COSTS)


@pytest.mark.parametrize("name", ["ntksap", "synflow", "magnitude"])
def test_both_budgets_hold_and_one_of_them_exactly(name: str) -> None:
    for sparsity, flops in ((0.5, 0.2), (0.7, 0.3), (0.9, 0.9)):
        mask = prune(block_net(), make_scorer(name), inputs(), Budget(sparsity, flops), rounds=2)

        table, most = mask_table(mask, COSTS), round(TOTAL * (1 - sparsity))
        assert table.kept <= most
        assert table.kept_macs <= flops * MACS
        assert most == table.kept or flops * MACS - table.kept_macs < unit_price(Unstructured())


def test_n_of_m_without_a_budget_keeps_exactly_n_of_every_m() -> None:
    mask = prune(block_net(), make_scorer("ntksap"), inputs(), pattern=NofM(2, 4), rounds=3)

    assert STEM + (TOTAL - STEM) // 2 == mask.kept
    for cost in COSTS[1:]:
        fours = mask[cost.name].transpose(0, 1).flatten(1).T.reshape(-1, 4)
        assert [2] * len(fours) == fours.sum(1).tolist()
    assert {"stem": "3 input channels do not divide by 4"} == find_limits(block_net(), SHAPE, None, NofM(2, 4)).left


@pytest.mark.parametrize("name", ["ntksap", "synflow", "magnitude", "force"])
@pytest.mark.parametrize(
    ("pattern", "budget", "options"),
    [
        (NofM(2, 4), Budget(0.44), {}),
        (NofM(2, 4), Budget(0.5), {}),
        (NofM(1, 4), Budget(0.67), {}),
        (NofM(2, 4), Budget(0.6), {"min_layer_density": 0.3}),
        (NofM(2, 4), Budget(0.46), {"keep_dense": ["fc"]}),
        (NofM(2, 4), Budget(0.5), {"scope": "layer"}),
    ],
)
def test_n_of_m_near_its_own_share_still_meets_the_count_after_many_rounds(
    name: str, pattern: Pattern, budget: Budget, options: dict[str, object]
) -> None:
    rounds: list[Mask] = []

    mask = prune(
        block_net(),
        make_scorer(name),
        inputs(),
        budget,
        pattern=pattern,
        rounds=8,
        on_round=lambda _, one: rounds.append(one),
        **options,  # type: ignore[arg-type]
    )

    assert budget.weights(TOTAL) == mask.kept
    floor = options.get("min_layer_density", 0.0)
    assert all(float(mask[cost.name].float().mean()) >= floor - 1e-6 for cost in COSTS)  # type: ignore[operator]
    whole = {f"{layer}.weight" for layer in options.get("keep_dense", ())}  # type: ignore[attr-defined]
    assert all(holds(pattern, mask[cost.name]) for cost in COSTS if cost.name not in whole)
    assert [one.kept for one in rounds] == sorted((one.kept for one in rounds), reverse=True)


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
def test_a_shuffled_mask_follows_the_pattern_and_keeps_every_count(pattern: Pattern) -> None:
    mask = prune(block_net(), make_scorer("magnitude"), inputs(), Budget(0.8), pattern=pattern)

    other = shuffled(mask, 7, pattern)

    assert all(holds(pattern, other[cost.name]) for cost in COSTS)
    assert {name: int(kept.sum()) for name, kept in mask.items()} == {n: int(k.sum()) for n, k in other.items()}
    assert not mask.same_as(other)
    assert other.same_as(shuffled(mask, 7, pattern))


def test_scope_layer_keeps_the_same_share_of_every_layer() -> None:
    mask = prune(block_net(), make_scorer("ntksap"), inputs(), Budget(0.75), scope="layer", rounds=2)

    assert round(TOTAL / 4) == mask.kept
    assert [0.25] * 4 == pytest.approx([float(mask[cost.name].float().mean()) for cost in COSTS], abs=0.01)


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_no_layer_goes_below_its_floor(scope: str) -> None:
    mask = prune(
        block_net(), make_scorer("synflow"), inputs(), Budget(0.9), scope=scope, rounds=4, min_layer_density=0.08
    )

    assert round(TOTAL * 0.1) == mask.kept
    assert all(float(mask[cost.name].float().mean()) >= 0.08 - 1e-6 for cost in COSTS)


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
def test_all_scores_zero_and_ties_still_meet_the_count(pattern: Pattern) -> None:
    class Flat:
        default_rounds, revives = 3, False

        def score(self, model: object, mask: Mask, inputs: object, index: int) -> dict[str, torch.Tensor]:
            return {name: torch.zeros(kept.shape) for name, kept in mask.items()}

    mask = prune(block_net(), Flat(), inputs(), Budget(0.8), pattern=pattern)

    target = Budget(0.8).weights(TOTAL)
    assert target is not None
    assert 0 <= target - mask.kept < pattern.unit_size


@pytest.mark.parametrize(
    ("budget", "options", "message"),
    [
        (
            Budget(0.95),
            {"pattern": Block(1, 8)},
            r"pattern 1x8 leaves 1 layer\(s\) whole and so keeps 216 weights, the",
        ),
        (Budget(0.9), {"keep_dense": ["conv1"]}, r"--keep-dense keeps 1,152 weights, the budget allows 156; lower"),
        (Budget(0.9), {"min_layer_density": 0.5}, r"--min-layer-density 0.5 keeps 780 weights, the budget allows 156"),
        (
            Budget(flops=0.2),
            {"keep_dense": ["conv1"]},
            r"--keep-dense keeps 18,432 MACs, .*raise --flops or keep fewer",
        ),
        (
            Budget(0.2),
            {"pattern": NofM(2, 4)},
            r"pattern 2:4 lets at most 888 of 1,560 weights live, less than the bud",
        ),
        (Budget(flops=0.9), {"pattern": NofM(1, 4)}, r"pattern 1:4 lets at most"),
        (Budget(params=2_000), {}, r"--params 2,000 is more than the 1,560 prunable weights"),
        (Budget(0.5), {"pattern": NofM(5, 7)}, r"no layer fits the pattern 5:7: 3 input channels do not divide by 7"),
        (None, {}, "pattern unstructured has no share of its own; give a Budget"),
        (Budget(0.5), {"scope": "model"}, r"scope must be global or layer; got 'model'"),
        (Budget(0.5), {"min_layer_density": 1.5}, r"min-layer-density must be in \[0, 1\]; got 1.5"),
    ],
)
def test_a_budget_that_cannot_be_met_names_the_bound(
    budget: Budget | None, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        prune(block_net(), make_scorer("magnitude"), inputs(), budget, **options)  # type: ignore[arg-type]


def test_two_bounds_that_only_meet_together() -> None:
    """One of two may lie above what the pattern lets live, as long as the other binds."""
    mask = prune(block_net(), make_scorer("magnitude"), inputs(), Budget(0.2, flops=0.5), pattern=NofM(2, 4))

    assert 0 <= 0.5 * MACS - mask_table(mask, COSTS).kept_macs < unit_price(NofM())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_refused(kind: torch.dtype) -> None:
    with pytest.raises(
        ConfigError, match=r"the weights of 'stem.weight' are .*float16, too coarse to score; prune model"
    ):
        prune(block_net().to(kind), make_scorer("magnitude"), inputs(), Budget(0.5))
