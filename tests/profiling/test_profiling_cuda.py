"""What needs a GPU is skipped without one; nothing here asserts how fast it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ntksap_export.profiling import cuda

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def test_events_time_the_device_not_the_call() -> None:
    matrix = torch.ones(2048, 2048, device="cuda")
    product = [matrix]

    def call() -> None:
        product[0] = matrix @ matrix

    times = cuda.event_times(call)(0.0, 5)

    assert 5 == len(times)
    assert all(0 < value < 10_000 for value in times)


def test_a_recorded_graph_computes_anew() -> None:
    source, target = torch.ones(4, device="cuda"), torch.zeros(4, device="cuda")

    def call() -> None:
        target.copy_(source * 2)

    replay = cuda.captured(call)
    source.fill_(3.0)
    cuda.waiting(replay)()

    assert [6.0] * 4 == target.tolist()


def test_a_copy_takes_time_and_memory_is_told() -> None:
    assert cuda.copy_ms(np.ones((4, 3, 64, 64), np.float32)) > 0
    assert {"peak_cuda_allocated_bytes", "peak_cuda_reserved_bytes", "cuda_device_used_bytes"} == set(cuda.memory(True))
    assert {"cuda_device_used_bytes"} == set(cuda.memory(False))
