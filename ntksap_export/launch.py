"""What a launcher such as torchrun says in the environment; read without torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from ntksap_export.errors import ConfigError

_PLACE: Final = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_LOCAL: Final = "LOCAL_WORLD_SIZE"
# srun and mpirun start a program several times and say here how often; that does not yet make the copies one run.
_TASKS: Final = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


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
    """This process's place under a launcher; None without one, or where it started one process only.

    Raises:
        ConfigError: the environment contradicts itself, or this is one of several copies that know nothing of each
            other and would write the same files.
    """
    found = [name for name in _PLACE if name in os.environ]
    _refuse_copies("RANK" in found)
    if not found:
        return None
    if len(found) < len(_PLACE):
        missing = ", ".join(name for name in _PLACE if name not in found)
        raise ConfigError(
            f"the environment has {', '.join(found)} but not {missing}: start several processes with torchrun, "
            f"or unset {', '.join(found)} to run one"
        )
    values = {name: _number(name) for name in (*_PLACE, _LOCAL) if name in os.environ}
    rank, processes, local_rank = (values[name] for name in _PLACE)
    local_processes = values.setdefault(_LOCAL, processes)
    for name, bound, fits in (
        ("RANK", "WORLD_SIZE", rank < processes),
        ("LOCAL_RANK", _LOCAL, local_rank < local_processes),
        (_LOCAL, "WORLD_SIZE", local_processes <= processes),
    ):
        if not fits:
            raise ConfigError(
                f"{name}={values[name]} does not go with {bound}={values[bound]}; start with torchrun, which sets both"
            )
    return Launch(rank, processes, local_rank, local_processes) if processes > 1 else None


def _refuse_copies(ranked: bool) -> None:
    """Refuse tasks that no torchrun joins: none was started, or each has its own that counts one machine."""
    tasks = {name: int(os.environ[name]) for name in _TASKS if os.environ.get(name, "").isdigit()}
    name, copies = max(tasks.items(), key=lambda item: item[1], default=("", 1))
    if copies < 2 or (ranked and os.environ.get("GROUP_WORLD_SIZE", os.environ.get("WORLD_SIZE")) != "1"):
        return
    raise ConfigError(
        f"{copies} copies of the same run would overwrite each other ({name}={copies}): start them with torchrun, "
        "one per machine, which joins them (see --nnodes and --rdzv-endpoint), or start one task"
    )


def _number(name: str) -> int:
    text = os.environ[name]
    if not text.isdigit():
        raise ConfigError(f"{name} must be a whole number; got '{text}'. Start with torchrun, which sets it")
    return int(text)
