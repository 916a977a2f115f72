"""Two processes that talk to each other by gloo."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed, multiprocessing

PROCESSES = 2


def on_two_ranks(work: Callable[[], dict[str, Any]], place: Path, join_all: bool = False) -> list[dict[str, Any]]:
    """What `work`, a function of a module, answers in each rank of a new group; one thread each.

    Args:
        work: its answer goes through JSON.
        place: an empty directory.
        join_all: wait for the other process, where one dies, before the error is raised.
    """
    group = multiprocessing.spawn(  # type: ignore[no-untyped-call]
        _one, (work, str(place)), nprocs=PROCESSES, join=False
    )
    if join_all:
        for process in group.processes:
            process.join()
    while not group.join():
        pass
    return [json.loads((place / str(rank)).read_text()) for rank in range(PROCESSES)]


def _one(rank: int, work: Callable[[], dict[str, Any]], place: str) -> None:
    torch.set_num_threads(1)
    os.environ.pop("RANK", None)
    distributed.init_process_group("gloo", init_method=f"file://{place}/store", rank=rank, world_size=PROCESSES)
    (Path(place) / str(rank)).write_text(json.dumps(work()))
    distributed.destroy_process_group()
