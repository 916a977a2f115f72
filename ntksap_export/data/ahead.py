"""Batches one ahead on a GPU: the next is copied on a stream of its own while the model works on this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

Batch = tuple[torch.Tensor, torch.Tensor]
T = TypeVar("T")
U = TypeVar("U")


def on_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches on `device`; for a GPU from page-locked memory, one ahead."""
    if device.type != "cuda":
        for images, labels in batches:
            yield images.to(device), labels.to(device)
        return
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def start(batch: Batch) -> tuple[Batch, torch.cuda.Event]:
        with torch.cuda.stream(side):
            copied = batch[0].to(device, non_blocking=True), batch[1].to(device, non_blocking=True)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record(side)
        return copied, done

    def finish(begun: tuple[Batch, torch.cuda.Event]) -> Batch:
        copied, done = begun
        current = torch.cuda.current_stream(device)
        current.wait_event(done)  # the copy of the batch after it may still be under way
        for tensor in copied:
            tensor.record_stream(current)  # its memory belongs to the side stream: not to be reused before we are done
        return copied

    yield from one_ahead(batches, start, finish)


def one_ahead(items: Iterator[T], start: Callable[[T], U], finish: Callable[[U], Batch]) -> Iterator[Batch]:
    """Start each item before the one ahead of it is finished and handed out."""
    begun: list[U] = []
    for item in items:
        begun.append(start(item))
        if len(begun) == 2:
            yield finish(begun.pop(0))
    if begun:
        yield finish(begun.pop())
