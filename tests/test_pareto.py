"""The Pareto front, against trying every pair."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntksap_export.pareto import pareto_front

# Few different values, so that ties are frequent.
VALUES = st.one_of(st.none(), st.integers(0, 4).map(float))
POINTS = st.integers(1, 4).flatmap(lambda width: st.lists(st.tuples(*[VALUES] * width), max_size=12))


def beaten(point: tuple[float | None, ...], others: list[tuple[float | None, ...]]) -> bool:
    for other in others:
        if None in other:
            continue
        pairs = list(zip(other, point, strict=True))
        if all(a <= b for a, b in pairs) and any(a < b for a, b in pairs):  # type: ignore[operator]
            return True
    return False


@given(POINTS)
def test_the_front_is_what_no_other_point_beats(points: list[tuple[float | None, ...]]) -> None:
    expected = [None not in point and not beaten(point, points) for point in points]

    assert expected == pareto_front(points)


@given(POINTS, st.randoms())
def test_the_order_of_the_points_does_not_matter(points: list[tuple[float | None, ...]], random: object) -> None:
    order = list(range(len(points)))
    random.shuffle(order)  # type: ignore[attr-defined]
    front = pareto_front(points)

    assert [front[index] for index in order] == pareto_front([points[index] for index in order])


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([], []),
        ([(1.0, 2.0)], [True]),
        ([(1.0, 2.0), (1.0, 2.0)], [True, True]),
        ([(1.0, 2.0), (1.0, 3.0)], [True, False]),
        ([(1.0, 2.0), (2.0, 1.0), (2.0, 2.0)], [True, True, False]),
        ([(None, 0.0), (1.0, 1.0)], [False, True]),
        ([(None, None)], [False]),
    ],
)
def test_small_fronts(points: list[tuple[float | None, ...]], front: list[bool]) -> None:
    assert front == pareto_front(points)
