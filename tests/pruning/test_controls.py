"""Controls: what shuffling keeps, what it changes, and which weights are trained under `reinit`."""

from __future__ import annotations

from pathlib import Path

import torch

from ntksap_export.checkpoint import load_mask
from ntksap_export.pipeline import run_road
from ntksap_export.pipeline.context import Context
from ntksap_export.pipeline.resolve import resolve
from ntksap_export.pipeline.run_dir import RunDir
from ntksap_export.progress import Silent
from ntksap_export.pruning import shuffled

from ..conftest import small_config
from ..support.nets import random_mask, tiny_net


def test_shuffling_keeps_each_layers_count_and_moves_its_places() -> None:
    mask = random_mask(tiny_net(), 0.3)

    other = shuffled(mask, seed=1)

    assert {name: int(kept.sum()) for name, kept in mask.items()} == {n: int(k.sum()) for n, k in other.items()}
    assert not other.same_as(mask)
    assert other.same_as(shuffled(mask, seed=1))
    assert not other.same_as(shuffled(mask, seed=2))


def test_shuffle_control_of_a_run(tmp_path: Path) -> None:
    for control in ("none", "shuffle"):
        run_road(small_config(control=control, rounds=1), tmp_path / control, stages=("prune",))
    plain, moved = (load_mask(tmp_path / control / "mask.safetensors")[0] for control in ("none", "shuffle"))

    assert moved.same_as(shuffled(plain, seed=0))


def test_reinit_control_trains_another_draw_under_the_same_mask(tmp_path: Path) -> None:
    def context(control: str) -> Context:
        config, look = resolve(small_config(control=control))
        return Context(config, RunDir(tmp_path), Silent(), look.name)

    plain, other = (context(control).build_to_train() for control in ("none", "reinit"))

    assert torch.equal(plain.get_parameter("fc.weight"), context("none").build().get_parameter("fc.weight"))
    assert torch.equal(context("reinit").build().get_parameter("fc.weight"), plain.get_parameter("fc.weight"))
    assert not torch.equal(plain.get_parameter("fc.weight"), other.get_parameter("fc.weight"))
