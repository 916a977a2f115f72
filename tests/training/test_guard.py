"""When a training is stopped or saved: at a NaN, a divergence, a signal, by the clock; and not before."""

from __future__ import annotations

import math

import pytest
import torch

from ntksap_export.training.guard import Guard, Verdict

CPU = torch.device("cpu")


def guard(classes: int = 10, stop: bool = False, minutes: float = math.inf) -> Guard:
    return Guard(classes, CPU, lambda: stop, minutes)


def looked(guard: Guard, *losses: float) -> list[Verdict]:
    return [guard.look(torch.tensor(loss), step, last=False) for step, loss in enumerate(losses, 1)]


def test_ordinary_losses_are_nothing_to_speak_of() -> None:
    assert [Verdict()] * 40 == looked(guard(), *[2.3] * 40)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_named_with_its_step(loss: float) -> None:
    assert Verdict("the loss is NaN or infinite", bad_step=3) == looked(guard(), 2.3, 2.3, loss)[-1]


def test_where_looking_is_dear_the_first_bad_step_is_still_known() -> None:
    watch = guard()
    watch.device = torch.device("cuda")  # asks only every 25 steps; the losses here are on the CPU all the same
    verdicts = []
    for step in range(1, 25):
        verdicts.append(watch.look(torch.tensor(math.nan if step == 7 else 1.0), step, last=False))

    assert [Verdict()] * 24 == verdicts
    assert Verdict("the loss is NaN or infinite", bad_step=7) == watch.look(torch.tensor(1.0), 25, last=False)


def test_the_last_step_of_an_epoch_is_always_looked_at() -> None:
    watch = guard()
    watch.device = torch.device("cuda")

    assert "the loss is NaN or infinite" == watch.look(torch.tensor(math.nan), 3, last=True).reason


def test_a_running_mean_far_above_knowing_nothing_has_diverged() -> None:
    verdicts = looked(guard(), *[2.3] * 50, *[400.0] * 2)

    assert "" == verdicts[49].reason
    assert verdicts[51].reason.startswith("the loss diverged: 77.9 on average, above 50")


def test_one_wild_loss_is_no_divergence() -> None:
    assert [""] * 101 == [verdict.reason for verdict in looked(guard(), *[2.3] * 60, 400.0, *[2.3] * 40)]


def test_a_bad_beginning_is_no_divergence() -> None:
    assert [""] * 100 == [verdict.reason for verdict in looked(guard(), *[400.0] * 2, *[2.3] * 98)]


def test_many_classes_may_have_larger_losses() -> None:
    assert "" == looked(guard(classes=1000), *[60.0] * 60)[-1].reason
    assert "" != looked(guard(classes=10), *[60.0] * 60)[-1].reason


def test_a_stop_is_passed_on() -> None:
    assert Verdict(stop=True) == looked(guard(stop=True), 2.3)[0]


def test_the_clock_begins_anew_with_each_save(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("ntksap_export.training.guard.time.monotonic", lambda: clock[0])
    watch = Guard(10, CPU, lambda: False, minutes=2.0, _saved_at=1000.0)

    def due_at(now: float) -> bool:
        clock[0] = now
        return watch.look(torch.tensor(2.3), 1, last=False).save

    assert [False, False, True] == [due_at(now) for now in (1000.0, 1119.0, 1120.0)]
    watch.saved()
    assert [False, False, True] == [due_at(now) for now in (1121.0, 1239.0, 1241.0)]
