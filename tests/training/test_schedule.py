"""The learning rate at every step, and the device and precision that training takes."""

from __future__ import annotations

import math

import pytest
import torch

from ntksap_export import hardware
from ntksap_export.errors import UnavailableError
from ntksap_export.training import TrainConfig, learning_rate, resolve_device, resolve_precision


def rates(config: TrainConfig, steps_per_epoch: int) -> list[float]:
    return [learning_rate(config, step, steps_per_epoch) for step in range(config.epochs * steps_per_epoch)]


def test_warm_up_is_linear_up_to_the_peak() -> None:
    config = TrainConfig(epochs=4, lr=0.8, warmup_epochs=2)

    assert [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8] == pytest.approx(rates(config, 4)[:8])


def test_cosine_runs_from_the_warm_up_to_the_end() -> None:
    config = TrainConfig(epochs=5, lr=0.2, warmup_epochs=1)

    after = rates(config, 10)[10:]
    assert [0.1 * (1 + math.cos(math.pi * step / 40)) for step in range(40)] == pytest.approx(after)
    assert 0.2 == after[0]
    assert 0.1 == pytest.approx(after[20])
    assert 0 < after[-1] < 0.001


def test_the_rate_falls_after_the_warm_up_and_never_passes_the_peak() -> None:
    values = rates(TrainConfig(epochs=3, lr=0.1, warmup_epochs=0.5), 7)

    peak = values.index(max(values))
    assert max(values) <= 0.1
    assert sorted(values[: peak + 1]) == values[: peak + 1]
    assert sorted(values[peak:], reverse=True) == values[peak:]


def test_without_warm_up_the_first_step_has_the_peak() -> None:
    assert 0.1 == learning_rate(TrainConfig(epochs=2, lr=0.1, warmup_epochs=0), 0, 5)


def test_steps_divide_by_ten_at_each_milestone() -> None:
    config = TrainConfig(epochs=4, lr=1.0, warmup_epochs=0, schedule="step", milestones=(0.5, 0.75))

    assert [1.0] * 4 + [0.1] * 2 + [0.01] * 2 == pytest.approx(rates(config, 2))


def test_the_factor_of_the_steps_can_be_chosen() -> None:
    config = TrainConfig(epochs=4, lr=1.0, warmup_epochs=0, schedule="step", milestones=(0.25, 0.5), gamma=0.2)

    assert [1.0] * 2 + [0.2] * 2 + [0.04] * 4 == pytest.approx(rates(config, 2))


def test_linear_is_a_triangle_from_zero_to_zero() -> None:
    config = TrainConfig(epochs=4, lr=0.6, warmup_epochs=1, schedule="linear")

    up, down = [0.2, 0.4, 0.6], [0.6 * (9 - step) / 9 for step in range(9)]
    assert up + down == pytest.approx(rates(config, 3))


def test_constant_stays_at_the_peak_after_the_warm_up() -> None:
    config = TrainConfig(epochs=3, lr=0.6, warmup_epochs=1, schedule="constant")

    assert [0.3, 0.6, 0.6, 0.6, 0.6, 0.6] == pytest.approx(rates(config, 2))


@pytest.mark.parametrize(
    ("share", "epoch", "epochs"),
    [(0.375, 60, 160), (0.75, 120, 160), (0.3333333, 30, 90), (0.6666666, 60, 90), (0.8888888, 80, 90)],
)
@pytest.mark.parametrize("steps", [391, 5004])
def test_a_share_of_the_epochs_falls_on_the_first_step_of_its_epoch(
    share: float, epoch: int, epochs: int, steps: int
) -> None:
    config = TrainConfig(epochs=epochs, lr=1.0, warmup_epochs=0, schedule="step", milestones=(share,))

    assert (1.0, 0.1) == (
        learning_rate(config, epoch * steps - 1, steps),
        learning_rate(config, epoch * steps, steps),
    )


def test_a_warm_up_longer_than_training_stays_below_the_peak() -> None:
    values = rates(TrainConfig(epochs=2, lr=1.0, warmup_epochs=4), 4)

    assert [0.0625 * step for step in range(1, 9)] == pytest.approx(values)


@pytest.mark.parametrize("warmup", [0.0, 0.5, 1.0])
def test_one_step_in_all_has_a_rate(warmup: float) -> None:
    assert 0.1 == learning_rate(TrainConfig(epochs=1, lr=0.1, warmup_epochs=warmup), 0, 1)


def test_a_precision_asked_for_is_taken() -> None:
    assert "fp32" == resolve_precision("fp32", torch.device("cpu"))
    assert "bf16" == resolve_precision("bf16", torch.device("cpu"))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [({"avx2", "amx_bf16"}, "bf16"), ({"avx512_bf16"}, "bf16"), ({"avx2"}, "fp32"), (set(), "fp32")],
)
def test_bf16_only_where_the_cpu_multiplies_it(monkeypatch: pytest.MonkeyPatch, flags: set[str], expected: str) -> None:
    monkeypatch.setattr(hardware, "cpu_flags", lambda: flags)

    assert expected == resolve_precision("auto", torch.device("cpu"))


def test_a_cuda_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert torch.device("cpu") == resolve_device("auto") == resolve_device("cpu")
    with pytest.raises(UnavailableError, match="torch sees no CUDA device here; use --device cpu or auto"):
        resolve_device("cuda")
