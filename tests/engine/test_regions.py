"""Regions on any acyclic graph: convex, whole, and in an order that can be run."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ntksap_export.engine.regions import in_order, regions


@st.composite
def dags(draw: st.DrawFn) -> tuple[list[tuple[int, ...]], frozenset[int]]:
    """What each node reads, and which nodes are covered."""
    size = draw(st.integers(1, 14))
    reads = [draw(st.frozensets(st.integers(0, at - 1), max_size=3)) if at else frozenset() for at in range(size)]
    covered = frozenset(at for at in range(size) if draw(st.booleans()))
    return [tuple(sorted(each)) for each in reads], covered


def behind(reads: list[tuple[int, ...]], start: int) -> set[int]:
    """All that depends on a node."""
    found = {start}
    for at, each in enumerate(reads):
        if found & set(each):
            found.add(at)
    return found - {start}


@settings(max_examples=300, deadline=None)
@given(dag=dags())
def test_regions_are_convex(dag: tuple[list[tuple[int, ...]], frozenset[int]]) -> None:
    reads, covered = dag
    for group in regions(reads, covered):
        after = set().union(*(behind(reads, at) for at in group)) - set(group)
        back = {at for outside in after for at in behind(reads, outside)} & set(group)

        assert set() == back


@settings(max_examples=300, deadline=None)
@given(dag=dags())
def test_every_covered_node_is_in_one_region(dag: tuple[list[tuple[int, ...]], frozenset[int]]) -> None:
    reads, covered = dag

    assert sorted(covered) == sorted(at for group in regions(reads, covered) for at in group)


@settings(max_examples=300, deadline=None)
@given(dag=dags(), dropped=st.integers(0, 3))
def test_regions_together_make_no_cycle(dag: tuple[list[tuple[int, ...]], frozenset[int]], dropped: int) -> None:
    reads, covered = dag
    groups = regions(reads, covered)[dropped:]  # those that do not pay are dropped
    place = {at: group[0] for group in groups for at in group}
    merged: dict[int, set[int]] = {}
    for at, each in enumerate(reads):
        own = place.get(at, at)
        merged.setdefault(own, set()).update({place.get(item, item) for item in each} - {own})
    order = in_order(merged)

    assert sorted(merged) == sorted(order)
    assert all(order.index(item) < order.index(at) for at, each in merged.items() for item in each)


def test_a_chain_is_one_region() -> None:
    assert ((0, 1, 2),) == regions([(), (0,), (1,)], {0, 1, 2})


def test_a_way_out_and_back_makes_two() -> None:
    """0 -> 1 (not covered) -> 2, and 0 -> 2 directly: 2 cannot run in one call with 0."""
    assert ((0,), (2,)) == regions([(), (0,), (0, 1)], {0, 2})


def test_branches_with_nothing_in_common_stay_apart() -> None:
    assert ((1, 3), (2, 4)) == regions([(), (0,), (0,), (1,), (2,)], {1, 2, 3, 4})
