"""Several processes share the batches of one; a pass that starts in the middle is the rest of a whole one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ntksap_export.data import Loader, loaders, make_loaders
from ntksap_export.data.plan import Plan
from ntksap_export.errors import ConfigError, DataError

from .cases import Batches, numbered, same


def together(parts: list[Batches]) -> Batches:
    """Put the ranks' rows of each training batch back between each other."""
    whole = []
    for group in zip(*parts, strict=True):
        count, world = sum(len(labels) for _, labels in group), len(group)
        images, labels = torch.empty(count, *group[0][0].shape[1:]), torch.empty(count, dtype=torch.int64)
        for rank, (own_images, own_labels) in enumerate(group):
            images[rank::world], labels[rank::world] = own_images, own_labels
        whole.append((images, labels))
    return whole


@pytest.mark.parametrize(("count", "world"), [(40, 2), (40, 3), (37, 4)])
def test_the_ranks_of_training_give_the_batches_of_one_process(count: int, world: int) -> None:
    dataset = numbered(count, augment="crop-flip")
    alone = make_loaders(dataset, 12, seed=5).train
    ranks = [make_loaders(dataset, 12, seed=5, part=(rank, world)).train for rank in range(world)]
    for loader in (alone, *ranks):
        loader.set_epoch(2)
    parts = [list(loader) for loader in ranks]

    whole = list(alone)[: len(ranks[0])]  # of several processes one fewer, if its last batch is short

    assert same(whole, together(parts))
    assert [len(labels) for _, labels in whole] == [ranks[-1].global_images(number) for number in range(len(whole))]


@pytest.mark.parametrize("image_size", [16, 97])
def test_images_in_memory_and_streamed_ones_are_shared_alike(make_folder: Callable[..., Path], image_size: int) -> None:
    root = str(make_folder(train=4))

    alone = list(loaders(root, 4, image_size, seed=1).train)
    parts = [list(loaders(root, 4, image_size, seed=1, part=(rank, 2)).train) for rank in range(2)]

    assert same(alone, together(parts))


@given(count=st.integers(1, 60), batch_size=st.integers(1, 20), world=st.integers(1, 4))
def test_validation_batches_go_round_the_ranks(count: int, batch_size: int, world: int) -> None:
    dataset = numbered(count)
    alone = [labels.tolist() for _, labels in make_loaders(dataset, batch_size).val]

    plans = [Plan(count, batch_size, False, (rank, world)) for rank in range(world)]
    dealt = [[list(range(count))[plan.places(number)] for number in range(len(plan))] for plan in plans]

    assert [alone[rank::world] for rank in range(world)] == dealt
    assert [[len(batch) for batch in batches] for batches in dealt] == [
        [plan.images(number) for number in range(len(plan))] for plan in plans
    ]


@given(count=st.integers(8, 60), batch_size=st.integers(8, 20), world=st.integers(1, 4))
def test_every_rank_has_two_images_of_every_training_batch(count: int, batch_size: int, world: int) -> None:
    plans = [Plan(count, batch_size, True, (rank, world)) for rank in range(world)]
    sizes = [[len(range(count)[plan.places(number)]) for plan in plans] for number in range(len(plans[0]))]
    dropped = count - sum(map(sum, sizes))

    assert 1 == len({len(plan) for plan in plans})
    assert min(min(batch) for batch in sizes) >= 2
    assert 0 == dropped or dropped == count % batch_size < 2 * world


@pytest.mark.parametrize("start", [0, 1, 3, 4])
def test_a_pass_from_the_middle_is_the_rest_of_a_whole_one(start: int) -> None:
    train, val = (
        make_loaders(numbered(40, augment="crop-flip"), 12, seed=5, part=(1, 2)).train,
        make_loaders(numbered(40), 12).val,
    )
    train.set_epoch(3)

    assert same(list(train)[start:], list(train.batches(start)))
    assert same(list(val)[start:], list(val.batches(start)))


def test_what_lies_before_the_start_is_not_decoded(make_folder: Callable[..., Path]) -> None:
    root = make_folder(size=(120, 100))
    loader = loaders(str(root), 2, 97, seed=1).val
    whole = list(loader)
    for path in (root / "val" / "cat").iterdir():
        path.unlink()

    assert same(whole[1:], list(loader.batches(1)))


@pytest.mark.parametrize(
    ("count", "batch_size", "part", "expected"),
    [
        (10, 3, (0, 2), "batch_size must be at least 2 a process; got 3 for 2 processes. Use 4 or more"),
        (10, 4, (2, 2), "part must be (rank, processes) with 0 <= rank < processes; got (2, 2)"),
        (10, 4, (0, 0), "part must be (rank, processes) with 0 <= rank < processes; got (0, 0)"),
        (3, 4, (0, 2), "3 training images are too few for 2 processes; use fewer processes"),
    ],
)
def test_what_cannot_be_shared(count: int, batch_size: int, part: tuple[int, int], expected: str) -> None:
    dataset = numbered(count)

    with pytest.raises((ConfigError, DataError)) as caught:
        Loader(dataset.train, dataset.spec, batch_size, train=True, seed=0, part=part)

    assert expected == str(caught.value)
