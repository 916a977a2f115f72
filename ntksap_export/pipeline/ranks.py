"""`ntksap` on several processes: who talks and writes, which GPU is whose, and how all end when one must.

    torchrun --nproc-per-node N -m ntksap_export.cli prune-train-export ...

Rank 0 checks, holds the directory and writes; the others score and train with it (see `pruning.distributed` and
`training.parallel`). torchrun gives each of several processes one thread, unless OMP_NUM_THREADS or --threads says
otherwise: a convolution's last bit depends on the number of threads, so compare masks under equal numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import torch
from torch import distributed

from ntksap_export.errors import ConfigError, NtksapError, UnavailableError
from ntksap_export.launch import launch
from ntksap_export.processes import is_main, world_size


@contextmanager
def process_group() -> Iterator[bool]:
    """Join the processes that a launcher started, and leave them at the end; without a launcher, nothing.

    Tensors on a CPU travel by gloo, on a GPU by NCCL.

    Yields:
        Whether this is the process that talks and writes.
    """
    if launch() is None or distributed.is_initialized():
        yield is_main()
        return
    # Torch imports it when it first needs it; if that is within the group, its default arguments hold the group and its
    # threads for good, and the process may abort when it ends.
    import_module("torch.distributed.nn.functional")
    nccl = torch.cuda.is_available() and distributed.is_nccl_available()
    distributed.init_process_group("cpu:gloo,cuda:nccl" if nccl else "gloo")
    try:
        yield is_main()
    finally:
        distributed.destroy_process_group()


@contextmanager
def all_or_none() -> Iterator[None]:
    """Work that may fail in one rank alone: at its end the ranks meet, and where one failed, all raise its error.

    Without it, the others would wait for the failed one in their next exchange.

    Raises:
        NtksapError, OSError: of the first rank that failed; another one's than rank 0's says whose it is.
    """
    if world_size() == 1:
        yield
        return
    own: NtksapError | OSError | None = None
    try:
        yield
    except (NtksapError, OSError) as error:
        own = error
    errors: list[NtksapError | OSError | None] = [None] * world_size()
    distributed.all_gather_object(errors, own)
    for index, first in enumerate(errors):
        if first is not None:
            raise type(first)(f"rank {index}: {first}") if index and isinstance(first, NtksapError) else first


def check_alone(what: str) -> None:
    """Refuse what one process does alone.

    Raises:
        ConfigError: there are several.
    """
    if world_size() > 1:
        raise ConfigError(f"{what} runs in one process, got {world_size()}; start it without torchrun")


def own_device(device: torch.device) -> torch.device:
    """`device`, or if it is CUDA and a launcher started several processes, this process's own GPU.

    Raises:
        UnavailableError: more processes than GPUs.
    """
    place = launch()
    if place is None or device.type != "cuda":
        return device
    if place.local_processes > torch.cuda.device_count():
        raise UnavailableError(
            f"{place.local_processes} processes for {torch.cuda.device_count()} CUDA device(s) on this machine; "
            f"start --nproc-per-node {torch.cuda.device_count()} or use --device cpu"
        )
    torch.cuda.set_device(place.local_rank)
    return torch.device("cuda", place.local_rank)
