"""Which of several points are worth having: those that no other beats in one respect without losing in another."""

from __future__ import annotations

from collections.abc import Sequence

Costs = Sequence[float | None]


def pareto_front(points: Sequence[Costs]) -> list[bool]:
    """Whether each point is on the front; what is better when it is larger comes in with its sign turned.

    A point is beaten by another that is nowhere worse and somewhere better. Equal points do not beat each other: both
    are on the front. A point with a missing value is not compared: it is not on the front and beats nobody.

    Args:
        points: for each the same number of costs, less being better; None where one is not known.
    """
    # In lexicographic order only an earlier point can beat a later one, and among those the front is enough: what a
    # beaten point beats, its beater beats too.
    whole = {index: values for index, point in enumerate(points) if (values := _whole(point)) is not None}
    front: list[int] = []
    for index in sorted(whole, key=lambda place: whole[place]):
        if not any(_beats(whole[other], whole[index]) for other in front):
            front.append(index)
    chosen = set(front)
    return [index in chosen for index in range(len(points))]


def _whole(point: Costs) -> tuple[float, ...] | None:
    known = tuple(value for value in point if value is not None)
    return known if len(known) == len(point) else None


def _beats(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return first != second and all(one <= other for one, other in zip(first, second, strict=True))
