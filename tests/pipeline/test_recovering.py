"""--recover and --init on their way from a run's configuration to the network that training starts from."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from ntksap_export import networks
from ntksap_export.analysis.isometry import isometry_of, jacobian_values
from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask
from ntksap_export.pipeline import RunDir, recovering, resolve, run_road
from ntksap_export.pipeline.context import Context
from ntksap_export.pruning import reinit_seed
from ntksap_export.recovery import initialize_, layer_gains, recover_

from ..conftest import Recorder, small_config

SHAPE = (3, 32, 32)
LENET = {"model": "lenet5", "image_size": 32, "method": "magnitude", "sparsity": 0.5, "epochs": 1}
SLIM = {**LENET, "model": "mlp7_linear", "pattern": "channel"}


def context(run: Path, **changes: Any) -> Context:
    return Context(resolve(small_config(**changes))[0], RunDir(run), Recorder(), "digits")


def test_what_lost_channels_is_trained_from_orthogonal_layers(tmp_path: Path) -> None:
    run = run_road(small_config(**SLIM, recover="orthp"), tmp_path / "slim", stages=("prune", "train"))

    here, progress = context(run, **SLIM, recover="orthp"), Recorder()
    here.progress = progress
    model = here.build_to_train()
    stored = json.loads((run / "metrics.json").read_text())["recovery"]
    assert here.recovery is not None
    assert {**here.recovery, "seconds": 0} == {**stored, "seconds": 0}
    plain = context(run, **SLIM).build_to_train()
    images = torch.randn(8, *SHAPE, generator=torch.Generator().manual_seed(0))
    before, after = (isometry_of(jacobian_values(network.eval(), images)).mean for network in (plain, model))
    assert before == pytest.approx(stored["before"]["mean"])
    assert after == pytest.approx(stored["after"]["mean"])
    assert progress.lines == [f"recover orthp: mean JSV {before:.4g} before, {after:.4g} after (8 noise images)"]
    recover_(plain, Mask.dense(plain), "orthp", SHAPE)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in plain.state_dict().items())


@pytest.mark.parametrize("control", ["none", "reinit"])
def test_what_a_mask_left_is_trained_from_near_isometries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, control: str
) -> None:
    monkeypatch.setattr(recovering, "recover_", partial(recover_, steps=200))
    run = run_road(small_config(**LENET), tmp_path / "run", stages=("prune",))

    here = context(run, **LENET, recover="isometry", control=control)
    model, mask = here.build_to_train(), here.mask()

    assert here.recovery is not None
    for name, kept in mask.items():
        assert not model.get_parameter(name)[~kept].any()
    assert all(layer["after"] < 0.3 * layer["before"] for layer in here.recovery["layers"])
    assert all(0 < layer["steps"] <= 200 for layer in here.recovery["layers"])
    assert here.recovery["before"]["images"] == here.recovery["after"]["images"] == 8


def test_without_a_jacobian_it_says_why_and_recovers_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> None:
        raise ConfigError("no Jacobian can be formed: the images are whole numbers")

    monkeypatch.setattr(recovering, "jacobian_values", none)
    config, progress = resolve(small_config(**SLIM, recover="orthp"))[0], Recorder()
    model = networks.build("mlp7_linear", 10)

    found = recovering.recover_start_(model, Mask.dense(model), config, SHAPE, torch.device("cpu"), progress)

    assert [
        "recover orthp: done; no mean JSV: no Jacobian can be formed: the images are whole numbers"
    ] == progress.lines
    assert (None, None) == (found["before"], found["after"])
    assert "no Jacobian can be formed: the images are whole numbers" == found["skipped"]
    assert all(layer["after"] < 1e-6 for layer in found["layers"])


def test_a_starved_layer_is_named() -> None:
    config, progress = resolve(small_config(**LENET, recover="isometry"))[0], Recorder()
    model = networks.build("lenet5", 10)
    mask = dict(Mask.dense(model))
    mask["conv1.weight"] = mask["conv1.weight"].index_fill(0, torch.tensor([4]), False)
    initialize_(model, "orthogonal", SHAPE, 0)  # so that the others are isometries already

    recovering.recover_start_(model, Mask(mask), config, SHAPE, torch.device("cpu"), progress)

    assert (
        "recover isometry: 1 of 5 layers have outputs or inputs without any weight and stay no isometries: "
        "'conv1.weight' has lost 1 of 6 singular values; a larger --min-layer-density leaves more"
    ) == progress.lines[-1]


@pytest.mark.parametrize("init", ["orthogonal", "delta-orthogonal"])
def test_every_draw_of_a_run_is_of_its_initialization(tmp_path: Path, init: str) -> None:
    def drawn(seed: int) -> dict[str, torch.Tensor]:
        model = networks.build("lenet5", 10, seed=seed)
        initialize_(model, init, SHAPE, seed)
        return model.state_dict()

    first = context(tmp_path, **LENET, init=init)
    again = context(tmp_path, **LENET, init=init, control="reinit")

    for expected, model in (
        (drawn(0), first.build_dense()),
        (drawn(0), first.build_to_train()),
        (drawn(0), again.build_dense()),
        (drawn(reinit_seed(0)), again.build_to_train()),
    ):
        assert all(torch.equal(expected[name], value) for name, value in model.state_dict().items())


def test_the_gains_of_a_slim_network_are_its_own(tmp_path: Path) -> None:
    run = run_road(small_config(**{**SLIM, "model": "lenet5"}), tmp_path / "slim", stages=("prune",))

    gains = layer_gains(context(run, **{**SLIM, "model": "lenet5"}).build(), SHAPE)

    assert [math.sqrt(2)] * 4 + [1.0] == list(gains.values())
