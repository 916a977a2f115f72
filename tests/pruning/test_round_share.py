"""Rounds that each remove a share of what is left, instead of the exponential schedule."""

from __future__ import annotations

import pytest

from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask, split_pattern
from ntksap_export.pruning import Budget, find_limits, make_scorer, prune, prune_channels
from ntksap_export.pruning.inputs import ScoringInputs

from ..support.nets import tiny_net

SHAPE = (3, 9, 9)
TOTAL = 618
INPUTS = ScoringInputs(SHAPE)


def kept(budget: Budget | None, share: float, pattern: str = "unstructured", classes: int = 3) -> list[int]:
    rounds: list[int] = []
    prune(
        tiny_net(classes=classes),
        make_scorer("magnitude"),
        INPUTS,
        budget,
        pattern=split_pattern(pattern)[1],
        round_share=share,
        on_round=lambda _, mask: rounds.append(mask.kept),
    )
    return rounds


def test_a_fifth_of_what_is_left_goes_until_the_budget() -> None:
    rounds = kept(Budget(0.6), 0.2)

    # 618 - 123, 495 - 99, 396 - 79, 317 - 63, and 254 - 50 = 204 would be below the budget's 247
    assert [495, 396, 317, 254, 247] == rounds


def test_at_least_one_weight_goes() -> None:
    assert list(range(617, 611, -1)) == kept(Budget(params=612), 0.001)


@pytest.mark.parametrize("budget", [Budget(0.0), Budget(params=TOTAL - 1)])
def test_a_budget_that_one_round_meets_takes_one(budget: Budget) -> None:
    assert [budget.weights(TOTAL)] == kept(budget, 0.5)


def test_flops_go_by_the_same_rule() -> None:
    limits = find_limits(tiny_net(), SHAPE, Budget(flops=0.5))

    schedule = limits.schedule_removing(0.25)

    macs = limits.total_macs
    first, second = macs - macs // 4, macs - macs // 4 - (macs - macs // 4) // 4
    assert [(None, first), (None, second), (None, macs // 2)] == [step[:2] for step in schedule]
    assert (pytest.approx(first / macs), 0.0) == (schedule[0][2], schedule[-1][2])


def test_both_bounds_walk_together() -> None:
    limits = find_limits(tiny_net(), SHAPE, Budget(0.1, flops=0.5))

    schedule = limits.schedule_removing(0.25)

    assert [limits.weights] * 3 == [weights for weights, _, _ in schedule]
    assert limits.macs == schedule[-1][1] < (schedule[1][1] or 0) < (schedule[0][1] or 0)


def test_n_of_m_tightens_with_the_rounds() -> None:
    rounds = kept(None, 0.03, "2:4", classes=10)

    # Of 674 weights the last layer's 80 lose half: three rounds, the first two of 20 and 19 weights less at most.
    assert 3 == len(rounds)
    assert 674 - 40 == rounds[-1]
    assert sorted(rounds, reverse=True) == rounds


def test_channels_go_by_the_same_rule() -> None:
    model, shares = tiny_net(), list[float]()

    prune_channels(
        model,
        make_scorer("magnitude"),
        INPUTS,
        Budget(0.7),
        round_share=0.3,
        round_to=1,
        on_round=lambda _, plan: shares.append(plan.mask(model).density),
    )

    bounds = [0.7, 0.49, 0.343, 0.3]
    assert len(bounds) == len(shares)
    assert all(share <= bound for share, bound in zip(shares, bounds, strict=True))
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.2])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=r"round-share must be in \(0, 1\); got"):
        prune(tiny_net(), make_scorer("magnitude"), INPUTS, Budget(0.5), round_share=share)


def test_without_a_share_nothing_changes() -> None:
    masks: list[Mask] = []

    prune(tiny_net(), make_scorer("magnitude"), INPUTS, Budget(0.9), rounds=4, on_round=lambda _, m: masks.append(m))

    assert [round(TOTAL * 0.1 ** (step / 4)) for step in (1, 2, 3, 4)] == [mask.kept for mask in masks]
