"""Timing and memory on a CUDA device, of torch models and graphs. Needs torch only where it is called."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy.typing as npt

from ntksap_export.profiling.measure import MAX_RUNS, Call

Runs = Callable[[float, int], list[float]]
_COPIES = 20


def event_times(call: Call) -> Runs:
    """Times by CUDA events around each call, read after a synchronize; copies to the device are not in them."""
    import torch

    torch.cuda.reset_peak_memory_stats()

    def runs(seconds: float, at_least: int) -> list[float]:
        times: list[float] = []
        start = time.perf_counter()
        while len(times) < at_least or (time.perf_counter() - start < seconds and len(times) < MAX_RUNS):
            before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            before.record()
            call()
            after.record()
            torch.cuda.synchronize()
            times.append(before.elapsed_time(after))
        return times

    return runs


def waiting(call: Call) -> Call:
    """A call that returns when the device is done."""
    import torch

    def wait() -> None:
        call()
        torch.cuda.synchronize()

    return wait


def captured(call: Call) -> Call:
    """The call as a CUDA graph: recorded once, then replayed without the CPU's part of each kernel's launch."""
    import torch

    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def copy_ms(images: npt.NDArray[Any]) -> float:
    """Median milliseconds to bring a batch from pageable memory of the host to the device."""
    import torch

    tensor = torch.from_numpy(images)

    def copy() -> None:
        tensor.to("cuda")

    return median(event_times(copy)(0.0, _COPIES))


def memory(with_allocator: bool) -> dict[str, int]:
    """What is in use on the device, by whomever; and, where torch computes, the peaks of its allocator here."""
    import torch

    if not torch.cuda.is_available():
        return {}
    free, total = torch.cuda.mem_get_info()
    device = {"cuda_device_used_bytes": total - free}
    if not with_allocator:
        return device
    return {
        **device,
        "peak_cuda_allocated_bytes": torch.cuda.max_memory_allocated(),
        "peak_cuda_reserved_bytes": torch.cuda.max_memory_reserved(),
    }
