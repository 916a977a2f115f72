"""One training on several processes: every process computes its part of each batch, and all hold the same weights.

A process alone runs the same code: there is nothing to exchange then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ntksap_export.errors import TrainingError
from ntksap_export.processes import world_size

_LOST = ("connection", "peer", "gloo", "nccl", "timed out", "timeout", "socket", "process group")


def distribute(model: nn.Module, device: torch.device) -> nn.Module:
    """The model as each process runs it: with its gradients averaged over all, rank 0's weights to begin with,
    and rank 0's buffers in every step.

    Args:
        model: on `device`.
        device: of this process.
    """
    if world_size() == 1:
        return model
    return DistributedDataParallel(
        model,
        device_ids=[device.index] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
    )


def unsynced(runner: nn.Module, last: bool) -> AbstractContextManager[Any]:
    """Around a backward pass whose gradients need not travel yet, because it is not the `last` of its step."""
    if last or not isinstance(runner, DistributedDataParallel):
        return nullcontext()
    return runner.no_sync()


@torch.no_grad()
def share_buffers(*models: nn.Module) -> None:
    """Rank 0's buffers in every process: without synced statistics each has seen its own part of the last batch."""
    if world_size() > 1:
        for model in models:
            for buffer in model.buffers():
                distributed.broadcast(buffer, src=0)


def agree(flags: Sequence[bool], device: torch.device) -> list[bool]:
    """Each flag, true if it is in any process."""
    if world_size() == 1:
        return list(flags)
    sent = torch.tensor([float(flag) for flag in flags], device=device)
    distributed.all_reduce(sent, op=distributed.ReduceOp.MAX)
    return [bool(flag) for flag in sent.tolist()]


def summed(sums: torch.Tensor) -> torch.Tensor:
    """The sum over all processes; `sums` is left as it is."""
    if world_size() == 1:
        return sums
    total = sums.clone()
    distributed.all_reduce(total)
    return total


@contextmanager
def lost_processes_named() -> Iterator[None]:
    """Say in one line what the other processes see when one of them dies.

    Raises:
        TrainingError: instead of the exchange's own error.
    """
    try:
        yield
    except RuntimeError as error:
        if world_size() == 1 or not any(word in str(error).lower() for word in _LOST):
            raise
        raise TrainingError(
            "another process of this job ended or cannot be reached; its own message says why. "
            "The same command goes on from the last checkpoint"
        ) from error
