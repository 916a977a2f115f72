"""Budgets, schedules and the settings of a scorer: what they answer, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

from ntksap_export.errors import ConfigError
from ntksap_export.pruning import SCORERS, Budget, NtkSap, ScoringInputs, exponential_shares, make_scorer

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("sparsity", "total", "kept"),
    [(0.0, 7, 7), (0.9, 270_896, 27_090), (0.5, 5, 2), (0.999, 10, 1), (0.25, 1000, 750)],
)
def test_a_budget_is_an_exact_number(sparsity: float, total: int, kept: int) -> None:
    assert kept == Budget(sparsity).weights(total)


def test_a_budget_of_parameters_is_that_number() -> None:
    assert 2_500 == Budget(params=2_500).weights(10_000)
    assert Budget(params=2_500).macs(10_000) is None


def test_a_budget_of_flops_rounds_down_and_sets_no_number_of_weights() -> None:
    assert 33 == Budget(flops=1 / 3).macs(101)
    assert Budget(flops=0.25).weights(10) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Budget(), "a budget needs --sparsity, --params or --flops"),
        (lambda: Budget(0.5, params=5), "give --sparsity or --params, not both"),
        (lambda: Budget(flops=0), r"flops must be in \(0, 1\]; got 0.* write --flops 0.25"),
        (lambda: Budget(flops=25), r"flops must be in \(0, 1\]; got 25"),
        (lambda: Budget(flops=float("nan")), "got nan"),
        (lambda: Budget(params=0), "params must be at least 1; got 0"),
        (lambda: Budget(params=11).weights(10), "--params 11 is more than the 10 prunable weights"),
    ],
)
def test_a_budget_that_means_nothing_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("sparsity", "hint"),
    [
        (95, "For 95 % write --sparsity 0.95"),
        (1, "1 would remove every weight"),
        (-0.1, "0 keeps everything"),
        (float("nan"), "got nan"),
    ],
)
def test_a_sparsity_outside_its_range_is_refused(sparsity: float, hint: str) -> None:
    with pytest.raises(ConfigError, match=rf"sparsity must be in \[0, 1\); .*{hint}"):
        Budget(sparsity)


def test_exponential_schedule() -> None:
    assert pytest.approx((0.1**0.25, 0.1**0.5, 0.1**0.75, 0.1)) == exponential_shares(0.1, 4)
    assert (0.1,) == exponential_shares(0.1, 1)
    assert (1.0, 1.0) == exponential_shares(1.0, 2)


def test_every_round_keeps_the_same_share_and_the_last_is_exact() -> None:
    densities = exponential_shares(0.07, 100)

    assert 0.07 == densities[-1]
    assert [0.07**0.01] * 99 == pytest.approx([b / a for a, b in pairwise(densities)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: exponential_shares(0.5, 0), "rounds must be at least 1; got 0"),
        (lambda: NtkSap(epsilon=0.0), "epsilon must be above 0; got 0"),
        (lambda: NtkSap(epsilon=-1.0), "epsilon must be above 0; got -1"),
        (lambda: NtkSap(epsilon=float("nan")), "epsilon must be above 0; got nan"),
        (lambda: NtkSap(draws=0), "draws must be at least 1; got 0"),
        (lambda: ScoringInputs((3, 8, 8), batch_size=1), "score-batch-size must be at least 2; got 1"),
        (lambda: ScoringInputs((3, 8, 8), batches=0), "score-batches must be at least 1; got 0"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_the_papers_defaults() -> None:
    assert (0.01, 1, 20) == (NtkSap().epsilon, NtkSap().draws, NtkSap().default_rounds)


@pytest.mark.parametrize("name", SCORERS)
def test_every_method_of_the_table_can_be_made(name: str) -> None:
    scorer = make_scorer(name)

    assert scorer.default_rounds >= 1
    assert callable(scorer.score)


def test_a_method_takes_its_options() -> None:
    assert NtkSap(epsilon=0.5, draws=3) == make_scorer("ntksap", epsilon=0.5, draws=3)


def test_an_unknown_method_suggests_near_ones() -> None:
    with pytest.raises(ConfigError, match="unknown method 'ntk-sap'; did you mean ntksap"):
        make_scorer("ntk-sap")
    with pytest.raises(ConfigError, match="unknown method 'xyz'; choose from ntksap"):
        make_scorer("xyz")


def test_a_generator_follows_from_its_key_alone() -> None:
    inputs = ScoringInputs((3, 8, 8), seed=5)

    first = torch.rand(4, generator=inputs.generator(CPU, 1, 2, 3))

    assert torch.equal(first, torch.rand(4, generator=inputs.generator(CPU, 1, 2, 3)))
    others = [inputs.generator(CPU, *key) for key in ((1, 2, 4), (1, 23), (12, 3), (3, 2, 1))]
    others.append(ScoringInputs((3, 8, 8), seed=6).generator(CPU, 1, 2, 3))
    assert not any(torch.equal(first, torch.rand(4, generator=other)) for other in others)
