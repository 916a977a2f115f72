"""Patterns: what they hold together, what does not fit, and their names."""

from __future__ import annotations

import re

import pytest
import torch

from ntksap_export.errors import ConfigError
from ntksap_export.masks import Block, NofM, Pattern, Unstructured, parse_pattern, split_pattern

EVERY = (Unstructured(), NofM(), NofM(1, 3), Block(2, 1), Block(1, 4), Block(2, 2))


def shaped(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def kept_of(pattern: NofM, scores: torch.Tensor, share: float = 0.0) -> torch.Tensor:
    return pattern.allowed(scores, torch.ones_like(scores, dtype=torch.bool), share)


@pytest.mark.parametrize("pattern", EVERY, ids=lambda pattern: pattern.name)
@pytest.mark.parametrize("shape", [(4, 12, 3, 3), (6, 24)])
def test_spread_undoes_pool_but_for_the_sum(pattern: Pattern, shape: tuple[int, ...]) -> None:
    units = pattern.pool(torch.ones(shape))
    chosen = torch.arange(units.numel()) % 3 == 0

    weights = pattern.spread(chosen, torch.Size(shape))

    assert shape == tuple(weights.shape)
    assert torch.full_like(units, pattern.unit_size).equal(units)
    assert (chosen.float() * pattern.unit_size).equal(pattern.pool(weights.float()))


def test_two_of_four_keeps_the_two_best_of_each_four_along_the_input_channels() -> None:
    scores = shaped(3, 8, 2, 2)

    kept = kept_of(NofM(), scores)

    for out in range(3):
        for first in (0, 4):
            for place in ((0, 0), (0, 1), (1, 0), (1, 1)):
                four = scores[out, first : first + 4, *place]
                best = four.topk(2).indices.tolist()
                assert sorted(best) == kept[out, first : first + 4, *place].nonzero().squeeze(1).tolist()


def test_equal_scores_do_not_always_spare_the_same_channels() -> None:
    kept = kept_of(NofM(), torch.zeros(8, 8))

    assert [2] * 16 == kept.view(-1, 4).sum(1).tolist()
    assert [4] * 8 == kept.sum(0).tolist()


def test_a_schedule_tightens_n_of_m_step_by_step() -> None:
    scores = shaped(2, 8)

    counts = [kept_of(NofM(), scores, share).view(-1, 4).sum(1).tolist() for share in (1.0, 0.76, 0.75, 0.51, 0.5, 0.1)]

    assert [[4] * 4, [4] * 4, [3] * 4, [3] * 4, [2] * 4, [2] * 4] == counts


def test_what_is_dead_stays_dead_and_takes_no_place() -> None:
    scores = torch.tensor([[9.0, 8.0, 2.0, 1.0]])
    alive = torch.tensor([[False, False, True, True]])

    kept = NofM().allowed(scores, alive, 0.0)

    assert alive.equal(kept)


def test_blocks_hold_neighbours_at_one_kernel_position() -> None:
    values = torch.zeros(4, 2, 2, 2)
    values[2, 1, 0, 1], values[3, 1, 0, 1] = 3.0, 4.0

    units = Block(2, 1).pool(values)

    assert [7.0] == units[units > 0].tolist()
    assert (values > 0).equal(Block(2, 1).spread(units > 0, values.shape))


@pytest.mark.parametrize(
    ("pattern", "shape", "reason"),
    [
        (Unstructured(), (3, 5, 7), None),
        (NofM(), (5, 8, 3, 3), None),
        (NofM(), (8, 3, 7, 7), "3 input channels do not divide by 4"),
        (Block(4, 1), (10, 3), "10 output channels do not divide by 4"),
        (Block(1, 16), (10, 24), "24 input channels do not divide by 16"),
        (Block(4, 1), (16, 3), None),
    ],
)
def test_what_does_not_fit_says_why(pattern: Pattern, shape: tuple[int, ...], reason: str | None) -> None:
    assert reason == pattern.misfit(torch.Size(shape))


@pytest.mark.parametrize("pattern", EVERY, ids=lambda pattern: pattern.name)
def test_the_share_is_what_may_live_and_below_one_where_a_pattern_caps(pattern: Pattern) -> None:
    assert (pattern.most(144) / 144, pattern.caps) == (pattern.share, pattern.share < 1)


@pytest.mark.parametrize("pattern", EVERY, ids=lambda pattern: pattern.name)
def test_a_name_reads_back(pattern: Pattern) -> None:
    assert pattern == parse_pattern(pattern.name)


def test_channels_come_first() -> None:
    assert (True, None) == split_pattern("channel")
    assert (True, NofM(2, 4)) == split_pattern("channel+2:4")
    assert (True, Unstructured()) == split_pattern("channel+unstructured")
    assert (False, Block(4, 1)) == split_pattern("4x1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2/4", "unknown pattern '2/4'; use unstructured, n:m as in 2:4"),
        ("channels", "unknown pattern 'channels'"),
        ("channel+", "unknown pattern ''"),
        ("2:4+channel", "unknown pattern"),
        ("4:4", "1 <= n < m; got 4:4"),
        ("0:4", "1 <= n < m; got 0:4"),
        ("1x1", "at least two weights, as in 4x1 or 1x16; got 1x1"),
        ("0x4", "got 0x4"),
    ],
)
def test_a_name_that_means_nothing_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        split_pattern(text)
