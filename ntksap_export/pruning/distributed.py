"""Scoring on several processes: each computes its share of the batches, all of them add up the same sums.

Addition of floats is not associative: sums of partial sums would depend on the number of processes, and with them the
mask. So what travels is each item's own contribution, and every process adds them in the order of the items, as one
process alone does: the same bits. Outside a process group (`torch.distributed` not initialized, or one process)
everything here is plain sequential code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from typing import TypeVar

import torch
from torch import distributed

from ntksap_export.errors import ScoreError
from ntksap_export.masks import Mask
from ntksap_export.processes import rank, world_size

T = TypeVar("T")
Tensors = dict[str, torch.Tensor]


def sum_in_order(sums: Tensors, items: Sequence[T], contribution: Callable[[T], Tensors]) -> None:
    """Add `contribution(item)` of every item to `sums`, in place and in the order of `items`.

    Of N processes, process r computes items r, r + N, ...; after each stripe of N items the contributions are sent
    around one by one. Every process ends with the sums that one alone would have made, bit by bit, if a contribution
    does not depend on who computes it (the same kind of device and number of threads). Each process holds the sums,
    its own contribution and one that it receives: three copies of the scored weights.

    Args:
        sums: name -> tensor; the same names, shapes and dtypes in every process.
        items: the same in every process.
        contribution: item -> tensors with the names and shapes of `sums`.
    """
    processes, own = world_size(), rank()
    if processes == 1:
        for item in items:
            _add_(sums, contribution(item))
        return
    for start in range(0, len(items), processes):
        stripe = items[start : start + processes]
        mine = _flat(sums, contribution(stripe[own])) if own < len(stripe) else None
        for owner in range(len(stripe)):
            sent = mine if mine is not None and owner == own else _buffer(sums)
            distributed.broadcast(sent, src=owner)
            _add_(sums, dict(zip(sums, _parts(sums, sent), strict=True)))


def of_main(mask: Mask) -> Mask:
    """Rank 0's mask, in every process.

    Scores that every process computes for itself may differ in a last bit on GPUs; ranks that went on with masks of
    their own would drift apart.
    """
    return mask if world_size() == 1 else Mask(_of_main(mask))


def scores_of_main(scores: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """Rank 0's scores, in every process; see `of_main`."""
    return scores if world_size() == 1 else _of_main(scores)


def _of_main(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    sent = {}
    for name, tensor in tensors.items():
        # Truth values travel as bytes: not every backend sends them.
        copy = tensor.detach().to(torch.uint8 if tensor.dtype == torch.bool else tensor.dtype).contiguous()
        distributed.broadcast(copy, src=0)
        sent[name] = copy.to(tensor.dtype)
    return sent


def check_same(digest: str) -> None:
    """Compare what every process came to; a mask that differs would go unnoticed and spoil the training after it.

    Raises:
        ScoreError: in every process alike; names those that differ from process 0.
    """
    if world_size() == 1:
        return
    digests: list[str] = [""] * world_size()
    distributed.all_gather_object(digests, digest)
    others = [str(index) for index, other in enumerate(digests) if other != digests[0]]
    if others:
        raise ScoreError(
            f"rank {', '.join(others)} of {len(digests)} chose another mask than rank 0; "
            "run all ranks on the same kind of device, with the same version of torch and the same --threads"
        )


@torch.no_grad()
def _add_(sums: Tensors, parts: Mapping[str, torch.Tensor]) -> None:
    for name, total in sums.items():
        total.add_(parts[name].detach().to(total.dtype))


def _common_dtype(sums: Tensors) -> torch.dtype:
    # The wider type holds every value of the narrower one: the way there and back changes no bit.
    return reduce(torch.promote_types, (total.dtype for total in sums.values()))


def _flat(sums: Tensors, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([parts[name].detach().to(total.dtype).flatten() for name, total in sums.items()])


def _buffer(sums: Tensors) -> torch.Tensor:
    device = next(iter(sums.values())).device
    return torch.empty(sum(total.numel() for total in sums.values()), dtype=_common_dtype(sums), device=device)


def _parts(sums: Tensors, flat: torch.Tensor) -> Iterator[torch.Tensor]:
    offset = 0
    for total in sums.values():
        yield flat[offset : offset + total.numel()].view(total.shape)
        offset += total.numel()
