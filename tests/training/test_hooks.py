"""What others may do to a training: change gradients, begin later in the schedule, ask for no epoch at all."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ntksap_export.errors import Preempted
from ntksap_export.masks import Mask
from ntksap_export.training import Checkpoints, EpochRow, TrainConfig, evaluate, train

from ..support.nets import TinyNet, random_mask
from .cases import config, digits, net

STEPS = 4  # of an epoch


def decaying(model: TinyNet, factor: float) -> Any:
    """A weight decay written as a hook."""

    def on_gradient(_: int) -> None:
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.grad.add_(parameter.detach(), alpha=factor)

    return on_gradient


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_what_the_hook_adds_is_part_of_the_gradient(precision: str) -> None:
    expected, model = net(), net()
    mask = random_mask(model)
    settings = config(epochs=1, precision=precision, weight_decay=0.0)
    train(expected, mask, digits(), replace(settings, weight_decay=0.3))

    train(model, mask, digits(), settings, on_gradient=decaying(model, 0.3))

    for name, value in expected.named_parameters():
        torch.testing.assert_close(model.get_parameter(name), value, rtol=1e-4, atol=1e-6)
    assert all(torch.equal(mask[name], model.get_parameter(name) != 0) for name in mask)


def test_what_the_hook_adds_is_clipped_with_the_rest() -> None:
    model = net()
    before = copy.deepcopy(model)
    settings = config(
        epochs=1, lr=1.0, momentum=0.0, weight_decay=0.0, warmup_epochs=0.0, schedule="constant", clip_norm=0.01
    )

    train(model, Mask.dense(model), digits(1442), settings, on_gradient=decaying(model, 1e6))

    moved = [(a - b).square().sum() for a, b in zip(model.parameters(), before.parameters(), strict=True)]
    assert 0.01 == pytest.approx(float(torch.stack(moved).sum().sqrt().detach()), rel=1e-3)


def test_a_training_goes_on_from_the_middle_of_its_schedule() -> None:
    settings = config(epochs=3, momentum=0.0, nesterov=False, schedule="step")
    whole, model, states, steps = net(), net(), [], []
    log = train(
        whole,
        Mask.dense(whole),
        digits(),
        settings,
        on_epoch=lambda _: states.append(copy.deepcopy(whole.state_dict())),
    )
    model.load_state_dict(states[1])

    rest = train(model, Mask.dense(model), digits(), settings, start_epoch=2, on_gradient=steps.append)

    assert [untimed(log.final)] == [untimed(row) for row in rest.history]
    assert list(range(2 * STEPS, 3 * STEPS)) == steps
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in whole.state_dict().items())
    assert 1 == rest.to_json()["epochs"]


def untimed(row: EpochRow) -> EpochRow:
    return replace(row, seconds=0.0, images_per_s=0.0)


@pytest.mark.parametrize("steps", [2, STEPS + 1, STEPS + 3])
def test_it_is_resumed_there_too(tmp_path: Path, steps: int) -> None:
    where, settings = Checkpoints(tmp_path / "states"), config(epochs=4)
    whole, model, left = net(), net(), [steps]
    expected = train(whole, random_mask(whole), digits(), settings, start_epoch=1, on_gradient=decaying(whole, 0.1))

    def stop() -> bool:
        left[0] -= 1
        return left[0] <= 0

    def again(**options: Any) -> Any:
        hook, mask = decaying(model, 0.1), random_mask(model)
        return train(model, mask, digits(), settings, start_epoch=1, checkpoints=where, on_gradient=hook, **options)

    with pytest.raises(Preempted, match=rf"the state after epoch {1 + steps // (STEPS + 1)}"):
        again(stop=stop)

    log = again()

    assert [2, 3, 4] == [row.epoch for row in log.history]
    assert [untimed(row) for row in expected.history] == [untimed(row) for row in log.history]
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in whole.state_dict().items())


@pytest.mark.parametrize(("epochs", "start"), [(0, 0), (2, 2)])
def test_without_an_epoch_to_train_the_network_is_judged_as_it_is(tmp_path: Path, epochs: int, start: int) -> None:
    model, rows, where = net(), list[EpochRow](), Checkpoints(tmp_path / "states")
    mask = random_mask(model)
    mask.apply_(model)
    before = copy.deepcopy(model.state_dict())

    settings = TrainConfig(epochs, precision="fp32")
    log = train(model, mask, digits(), settings, checkpoints=where, on_epoch=rows.append, start_epoch=start)

    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    assert not model.training
    assert (log.final,) == log.history == tuple(rows)
    assert (log.final.val_loss, log.final.val_accuracy) == evaluate(model, digits().val)
    first = [next(iter(digits().train))]  # one batch, as there is one to judge by
    assert (log.final.train_loss, log.final.train_accuracy) == evaluate(model, first)
    assert (0, 0.0, 0) == (log.final.epoch, log.final.lr, log.to_json()["epochs"])
    assert not where.directory.exists()
