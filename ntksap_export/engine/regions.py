"""Which covered nodes go into one call: as many as hang together without a way out and back in.

Every node has a level: the number of times that a path to it went from a covered node through others back to a
covered one. Levels never fall along a path, and nodes of one level that read each other have no other node between
them: so each such group is convex, and putting it into one node makes no cycle.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence


def regions(before: Sequence[Collection[int]], covered: Collection[int]) -> tuple[tuple[int, ...], ...]:
    """Groups of covered nodes, each in order.

    Args:
        before: for each node the numbers of those that it reads, all smaller than its own.
        covered: numbers of the nodes that may go into a group.
    """
    inside = frozenset(covered)
    levels: list[int] = []
    for at, makers in enumerate(before):
        steps = (levels[maker] + (maker in inside and at not in inside) for maker in makers)
        levels.append(max(steps, default=0))
    group = {at: at for at in inside}
    for at in sorted(inside):
        for maker in before[at]:
            if maker in inside and levels[maker] == levels[at]:
                group[_root(group, at)] = _root(group, maker)
    found: dict[int, list[int]] = {}
    for at in sorted(inside):
        found.setdefault(_root(group, at), []).append(at)
    return tuple(tuple(nodes) for nodes in found.values())


def in_order(before: Mapping[int, Collection[int]]) -> tuple[int, ...]:
    """Numbers so that each follows those that it reads, the smaller first where there is a choice."""
    waiting = {at: len(set(makers)) for at, makers in before.items()}
    readers: dict[int, list[int]] = {at: [] for at in before}
    for at, makers in before.items():
        for maker in set(makers):
            readers[maker].append(at)
    ready = [at for at, count in waiting.items() if not count]
    heapq.heapify(ready)
    order = []
    while ready:
        at = heapq.heappop(ready)
        order.append(at)
        for reader in readers[at]:
            waiting[reader] -= 1
            if not waiting[reader]:
                heapq.heappush(ready, reader)
    assert len(order) == len(before), "regions must not make a cycle"
    return tuple(order)


def _root(group: dict[int, int], at: int) -> int:
    while group[at] != at:
        group[at] = group[group[at]]
        at = group[at]
    return at
