"""One batch ahead on a GPU; on a CPU batches pass as they are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from ntksap_export.data.ahead import on_device, one_ahead
from ntksap_export.errors import DataError


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_each_batch_is_begun_before_the_one_ahead_of_it_is_handed_out(count: int) -> None:
    log: list[str] = []

    def start(number: int) -> int:
        log.append(f"start {number}")
        return number

    def finish(number: int) -> tuple[torch.Tensor, torch.Tensor]:
        log.append(f"finish {number}")
        return torch.tensor(number), torch.tensor(number)

    handed = [int(images) for images, _ in one_ahead(iter(range(count)), start, finish)]

    begun = [f"start {number}" for number in range(count)]
    ended = [f"finish {number}" for number in range(count)]
    expected = [entry for pair in zip(begun[1:], ended, strict=False) for entry in pair]
    assert list(range(count)) == handed
    assert begun[:1] + expected + ended[-1:] == log


def test_an_error_while_reading_ahead_comes_after_what_was_read() -> None:
    def items() -> Iterator[int]:
        yield from (0, 1)
        raise DataError("broken")

    begun = one_ahead(items(), lambda number: number, lambda number: (torch.tensor(number), torch.tensor(0)))

    assert 0 == int(next(begun)[0])
    with pytest.raises(DataError, match="broken"):
        next(begun)


def test_on_the_cpu_batches_stay_what_they_are() -> None:
    batches = [(torch.ones(2), torch.zeros(2))]

    assert batches == list(on_device(iter(batches), torch.device("cpu")))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_batches_copied_ahead_are_those_of_the_cpu() -> None:
    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for number in range(30):
            yield torch.full((64, 3, 64, 64), number, dtype=torch.uint8).pin_memory(), torch.tensor([number])

    for number, (images, labels) in enumerate(on_device(batches(), torch.device("cuda"))):
        assert ([number], number * 64 * 3 * 64 * 64) == (labels.tolist(), int(images.long().sum()))
