"""What a launcher such as torchrun says in the environment; read without torch."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Launch:
    """One process of several.

    Attributes:
        rank: its place among all, from 0.
        processes: how many there are, at least 2.
        local_rank: its place among those on this machine; the number of its GPU.
        local_processes: how many there are on this machine.
    """

    rank: int
    processes: int
    local_rank: int
    local_processes: int


def launch() -> Launch | None:
    """This process's place under a launcher; None without one, or where it started one process only."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if not all(os.environ.get(name, "").isdigit() for name in names):
        return None
    rank, processes, local_rank = (int(os.environ[name]) for name in names)
    if processes < 2:
        return None
    return Launch(rank, processes, local_rank, int(os.environ.get("LOCAL_WORLD_SIZE", processes)))
