"""Laws of selection: exact, nested, the best, repeatable."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntksap_export.errors import ConfigError, ScoreError
from ntksap_export.masks import Mask
from ntksap_export.pruning import keep_best

SHAPES = {"a.weight": (4, 3, 2, 2), "b.weight": (5, 4), "c.weight": (1, 7)}
SIZES = {"a.weight": 48, "b.weight": 20, "c.weight": 7}


@st.composite
def scored(draw: st.DrawFn) -> tuple[dict[str, torch.Tensor], Mask]:
    """Scores with many ties (few distinct values, zero among them) and a mask that already prunes."""
    levels = draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    alive = draw(st.sampled_from([0.3, 0.7, 1.1]))
    fine = draw(st.booleans())
    scores, mask = {}, {}
    for name, shape in SHAPES.items():
        coarse = torch.randint(levels, shape, generator=generator).float() * 1e-9
        scores[name] = torch.randn(shape, generator=generator) if fine else coarse
        mask[name] = torch.rand(shape, generator=generator) < alive
        mask[name].view(-1)[0] = True
    return scores, Mask(mask)


def flat(tensors: dict[str, torch.Tensor] | Mask) -> torch.Tensor:
    return torch.cat([tensors[name].flatten() for name in SHAPES])


@settings(deadline=None)
@given(case=scored(), share=st.floats(0, 1))
def test_exact_nested_and_the_best(case: tuple[dict[str, torch.Tensor], Mask], share: float) -> None:
    scores, mask = case
    keep = round(share * mask.kept)

    chosen = keep_best(scores, mask, keep)

    assert keep == chosen.kept
    assert list(mask) == list(chosen)
    assert {name: mask[name].shape for name in mask} == {name: chosen[name].shape for name in chosen}
    kept, lost = flat(chosen), flat(mask) & ~flat(chosen)
    assert not bool((kept & ~flat(mask)).any())
    if bool(kept.any()) and bool(lost.any()):
        assert flat(scores)[kept].min() >= flat(scores)[lost].max()


@settings(deadline=None)
@given(case=scored(), share=st.floats(0, 1))
def test_the_same_question_has_the_same_answer(case: tuple[dict[str, torch.Tensor], Mask], share: float) -> None:
    scores, mask = case
    keep = round(share * mask.kept)
    before = flat(scores).clone(), mask.digest(), torch.get_rng_state()

    first = keep_best(scores, mask, keep)
    torch.rand(1)
    again = keep_best(scores, mask, keep)

    assert first.same_as(again)
    assert torch.equal(before[0], flat(scores))
    assert before[1] == mask.digest()


@settings(deadline=None)
@given(case=scored(), share=st.floats(0, 1), dense=st.sets(st.sampled_from(sorted(SHAPES)), max_size=3))
def test_what_is_kept_dense_stays_and_counts(
    case: tuple[dict[str, torch.Tensor], Mask], share: float, dense: set[str]
) -> None:
    scores, mask = case
    fixed = sum(int(mask[name].sum()) for name in dense)
    keep = fixed + round(share * (mask.kept - fixed))

    chosen = keep_best(scores, mask, keep, dense)

    assert keep == chosen.kept
    assert all(torch.equal(mask[name], chosen[name]) for name in dense)
    free = [name for name in SHAPES if name not in dense]
    if free:
        part = keep_best({name: scores[name] for name in free}, Mask({n: mask[n] for n in free}), keep - fixed)
        assert all(torch.equal(part[name], chosen[name]) for name in free)


@settings(deadline=None)
@given(case=scored(), few=st.floats(0, 1), many=st.floats(0, 1))
def test_a_lower_density_keeps_a_part_of_a_higher_one(
    case: tuple[dict[str, torch.Tensor], Mask], few: float, many: float
) -> None:
    scores, mask = case
    low, high = sorted((round(few * mask.kept), round(many * mask.kept)))

    larger = keep_best(scores, mask, high)
    smaller = keep_best(scores, mask, low)

    assert not bool((flat(smaller) & ~flat(larger)).any())


def test_scores_that_are_all_zero_still_give_an_exact_count() -> None:
    scores = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    mask = Mask({name: torch.ones(shape, dtype=torch.bool) for name, shape in SHAPES.items()})

    assert [0, 1, 30, 74, 75] == [keep_best(scores, mask, keep).kept for keep in (0, 1, 30, 74, 75)]


def test_ties_favour_no_layer() -> None:
    shapes = {f"layer{index}": (20, 50) for index in range(8)}
    scores = {name: torch.zeros(shape) for name, shape in shapes.items()}
    mask = Mask({name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()})

    chosen = keep_best(scores, mask, 800)

    # 1 of 10: per layer 100, with a standard deviation of about 9
    assert [100] * 8 == pytest.approx([int(kept.sum()) for kept in chosen.values()], abs=45)


def test_ties_at_the_threshold_only_fill_up() -> None:
    scores = {"a": torch.tensor([3.0, 1.0, 1.0, 1.0, 2.0, 0.0])}
    mask = Mask({"a": torch.tensor([True, True, True, False, True, True])})

    kept = keep_best(scores, mask, 3)["a"].tolist()

    assert (True, False, True, False) == (kept[0], kept[3], kept[4], kept[5])
    assert 1 == kept[1] + kept[2]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_is_no_number_names_its_layer(bad: float) -> None:
    scores = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    scores["b.weight"][2, 1] = bad
    mask = Mask({name: torch.ones(shape, dtype=torch.bool) for name, shape in SHAPES.items()})

    with pytest.raises(ScoreError, match=re.escape("the score of 'b.weight' has NaN or infinite values; try")):
        keep_best(scores, mask, 10)


def test_more_kept_dense_than_there_is_room_for() -> None:
    scores = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    mask = Mask({name: torch.ones(shape, dtype=torch.bool) for name, shape in SHAPES.items()})

    with pytest.raises(ConfigError, match="--keep-dense keeps 48 weights, the budget allows 47"):
        keep_best(scores, mask, 47, ["a.weight"])
