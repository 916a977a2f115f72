"""Settings of training on their way from a run's configuration to the loop."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from ntksap_export.config import TRAIN_KEYS, make_config
from ntksap_export.masks import fan_in
from ntksap_export.pipeline import RunDir, resolve, run_road
from ntksap_export.pipeline.context import Context
from ntksap_export.progress import Silent
from ntksap_export.training import TrainConfig, train_config
from tests.conftest import small_config


def context(run: Path, **changes: Any) -> Context:
    return Context(resolve(small_config(**changes))[0], RunDir(run), Silent(), "digits")


def test_the_loop_gets_every_setting_that_it_knows() -> None:
    asked = {
        "epochs": 7, "optimizer": "adamw", "lr": 0.3, "momentum": 0.5, "nesterov": False, "weight_decay": 0.01,
        "decay_norms": False, "schedule": "step", "milestones": (0.1,), "gamma": 0.5, "warmup_epochs": 2.0,
        "clip_norm": 1.5, "label_smoothing": 0.1, "mixup": 0.2, "cutmix": 1.0, "ema": 0.9, "precision": "fp32",
        "accumulate": 2, "sync_bn": False, "compile": "default", "seed": 5,
    }  # fmt: skip

    config = train_config(make_config({"model": "resnet20", **asked}))

    assert TrainConfig(**asked) == config
    assert {field.name for field in fields(TrainConfig)} - set(TRAIN_KEYS) == {
        "compile",
        "seed",
    }  # free; of the prune stage


def test_the_defaults_of_a_run_are_those_of_the_loop() -> None:
    config = train_config(make_config({"model": "resnet20", "epochs": 3, "lr": 0.1}))

    assert TrainConfig(epochs=3) == config


def test_adamw_has_a_smaller_rate_unless_one_is_given() -> None:
    config = make_config({"model": "resnet20", "optimizer": "adamw"})

    assert 0.001 == resolve(config)[0].lr
    assert 0.02 == resolve(config.with_values(lr=0.02))[0].lr


@pytest.mark.parametrize("control", ["none", "reinit"])
def test_training_may_start_from_rescaled_weights(finished_run: Path, control: str) -> None:
    plain = dict(context(finished_run, control=control).build_to_train().named_parameters())
    run = context(finished_run, control=control, rescale_init=True)
    rescaled = dict(run.build_to_train().named_parameters())

    mask = run.mask()
    for name, kept in fan_in(mask).items():
        inputs = plain[name][0].numel()
        for row, live in enumerate(kept.tolist()):
            factor = (inputs / live) ** 0.5 if live else 1.0
            torch.testing.assert_close(rescaled[name][row], plain[name][row] * factor)
    assert all(torch.equal(plain[name], value) for name, value in rescaled.items() if name not in mask)


def test_what_lost_channels_is_rescaled_from_the_fan_in_it_was_drawn_for(tmp_path: Path) -> None:
    changes = {"pattern": "channel", "method": "magnitude", "sparsity": 0.5}
    run_road(small_config(**changes), tmp_path / "slim", stages=("prune",))

    dense = dict(context(tmp_path / "slim", **changes).build_dense().named_parameters())
    plain = dict(context(tmp_path / "slim", **changes).build_to_train().named_parameters())
    rescaled = dict(context(tmp_path / "slim", rescale_init=True, **changes).build_to_train().named_parameters())

    narrowed = [name for name, value in plain.items() if value.ndim > 1 and value[0].numel() < dense[name][0].numel()]
    assert len(narrowed) >= 3
    for name in narrowed:
        factor = (dense[name][0].numel() / plain[name][0].numel()) ** 0.5
        torch.testing.assert_close(rescaled[name], plain[name] * factor)
