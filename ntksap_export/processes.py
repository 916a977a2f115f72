"""The processes that work on one run together (`torch.distributed`): which one this is, and what rank 0 found.

Without a process group everything here is the plain answer for one process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import distributed

from ntksap_export.errors import NtksapError

T = TypeVar("T")


def world_size() -> int:
    """The number of processes that work together; 1 without a process group."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """This process's place among them, from 0."""
    return distributed.get_rank() if world_size() > 1 else 0


def is_main() -> bool:
    """Whether this is the process that talks and writes."""
    return rank() == 0


def from_main(find: Callable[[], T]) -> T:
    """What `find` finds in rank 0, in every process; the others do not call it, and wait.

    Raises:
        NtksapError, OSError: of rank 0, in every process.
    """
    if world_size() == 1:
        return find()
    found: list[Any] = [None]
    if is_main():
        try:
            found = [find()]
        except (NtksapError, OSError) as error:
            found = [error]
    distributed.broadcast_object_list(found, src=0)
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]  # type: ignore[no-any-return]


def meet() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        distributed.barrier()
