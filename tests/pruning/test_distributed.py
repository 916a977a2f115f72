"""Scoring on two processes: each computes half of the batches, both find the mask that one process alone finds."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ntksap_export.errors import ScoreError
from ntksap_export.processes import is_main, rank, world_size
from ntksap_export.pruning import Budget, NtkSap, Scorer, ScoringInputs, make_scorer, prune
from ntksap_export.pruning.distributed import check_same, sum_in_order

from ..support.nets import tiny_net
from ..support.ranks import on_two_ranks

SCORERS: dict[str, Scorer] = {
    "ntksap": NtkSap(draws=3),
    "snip": make_scorer("snip"),
    "grasp": make_scorer("grasp"),
    "synflow": make_scorer("synflow"),
}
ITEMS = range(5)


def digest(scorer: Scorer) -> str:
    """Of the mask after three rounds with three batches a draw: an odd number of items."""
    generator = torch.Generator().manual_seed(1)
    data = torch.randn(12, 3, 9, 9, generator=generator), torch.arange(12) % 3
    inputs = ScoringInputs((3, 9, 9), batch_size=4, batches=3, seed=1, data=data)
    return prune(tiny_net(), scorer, inputs, Budget(0.6), rounds=3).digest()


def contribution(item: int) -> dict[str, torch.Tensor]:
    """Of very different sizes, so that the last bits of a sum tell in which order it was made."""
    generator = torch.Generator().manual_seed(item)
    single = torch.randn(4, 50, generator=generator) * 10.0 ** (item % 3)
    return {"single": single.requires_grad_(), "double": torch.randn(7, dtype=torch.float64, generator=generator)}


def sums_of(items: list[int]) -> dict[str, torch.Tensor]:
    """One addition after another, written out."""
    sums = {"single": torch.zeros(4, 50), "double": torch.zeros(7, dtype=torch.float64)}
    for item in items:
        for name, part in contribution(item).items():
            sums[name] = sums[name] + part.detach()
    return sums


def summed() -> tuple[dict[str, torch.Tensor], list[int]]:
    """The sums of `sum_in_order`, and the items that this process was asked for."""
    asked: list[int] = []
    sums = {"single": torch.zeros(4, 50), "double": torch.zeros(7, dtype=torch.float64)}

    def recorded(item: int) -> dict[str, torch.Tensor]:
        asked.append(item)
        return contribution(item)

    sum_in_order(sums, ITEMS, recorded)
    return sums, asked


def work() -> dict[str, Any]:
    sums, asked = summed()
    check_same("the same")
    try:
        check_same(f"mask of {rank()}")
        refusal = ""
    except ScoreError as error:
        refusal = str(error)
    return {
        "place": [rank(), world_size(), is_main()],
        "sums": {name: total.tolist() for name, total in sums.items()},
        "asked": asked,
        "refusal": refusal,
        "digests": {name: digest(scorer) for name, scorer in SCORERS.items()},
    }


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """One start of two processes for all tests: it takes seconds."""
    return on_two_ranks(work, tmp_path_factory.mktemp("ranks"))


def test_each_process_knows_its_place(answers: list[dict[str, Any]]) -> None:
    assert [[0, 2, True], [1, 2, False]] == [answer["place"] for answer in answers]
    assert (0, 1, True) == (rank(), world_size(), is_main())


def test_sums_are_those_of_one_process_to_the_last_bit(answers: list[dict[str, Any]]) -> None:
    expected = {name: total.tolist() for name, total in sums_of([0, 1, 2, 3, 4]).items()}

    assert not torch.equal(sums_of([0, 1, 2, 3, 4])["single"], sums_of([0, 2, 4, 1, 3])["single"])
    assert expected == {name: total.tolist() for name, total in summed()[0].items()}
    assert [expected, expected] == [answer["sums"] for answer in answers]


def test_items_are_divided(answers: list[dict[str, Any]]) -> None:
    assert [[0, 2, 4], [1, 3]] == [answer["asked"] for answer in answers]
    assert [0, 1, 2, 3, 4] == summed()[1]


@pytest.mark.parametrize("name", SCORERS)
def test_the_mask_is_that_of_one_process(answers: list[dict[str, Any]], name: str) -> None:
    expected = digest(SCORERS[name])

    assert [expected, expected] == [answer["digests"][name] for answer in answers]


def test_masks_that_differ_are_an_error_in_every_process(answers: list[dict[str, Any]]) -> None:
    check_same("alone, nothing differs")

    assert [True, True] == ["rank 1 of 2 chose another mask than rank 0" in answer["refusal"] for answer in answers]
