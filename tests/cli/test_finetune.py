"""`ntksap prune-finetune-export`: the whole road of a trained network, and what it says of wrong weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ntksap_export import models
from ntksap_export.pipeline.finetuning import lay_under
from tests.conftest import SMALL_FLAGS

Call = Callable[..., tuple[int, str, str]]


def test_a_trained_network_goes_the_whole_road(ntksap: Call, finished_run: Path, tmp_path: Path) -> None:
    home = tmp_path / "out"
    flags = (*SMALL_FLAGS, "--epochs", "0", "--sparsity", "0.5", "--json")
    code, out, err = ntksap("prune-finetune-export", "resnet20", "--weights", finished_run, *flags, "--out", home)

    assert code == 0, err
    settings = json.loads((home / "config.json").read_text())["ntksap"]["config"]
    told, page = json.loads(out), (home / "report.md").read_text()
    assert ("l1", "channel", 0, True) == (told["method"], told["pattern"], told["epochs"], told["parity"])
    assert (0.01, "step", [0.5, 0.75], 0.0, False) == tuple(
        settings[key] for key in ("lr", "schedule", "milestones", "warmup-epochs", "nesterov")
    )
    assert "resnet20, trained before, was pruned to" in page
    assert "It was not trained after that." in page
    assert "pruned with l1" in (home / "README.md").read_text()


@pytest.mark.parametrize(
    ("given", "pattern", "lr"),
    [
        ({}, "channel", 0.01),
        ({"method": "tpp"}, "channel", 0.01),
        ({"method": "fpgm", "pattern": "channel"}, "channel", 0.01),
        ({"method": "taylor"}, None, 0.01),
        ({"method": "lottery", "lr": 0.1}, None, 0.1),
        ({"optimizer": "adamw"}, "channel", None),
    ],
)
def test_the_verbs_own_defaults(given: dict[str, str], pattern: str | None, lr: float | None) -> None:
    laid = lay_under({"model": "resnet20", **given})

    assert (pattern, lr, False) == (laid.get("pattern"), laid.get("lr"), laid["nesterov"])
    assert {**laid, **given} == laid


def test_a_recipe_beats_the_verbs_defaults(ntksap: Call, finished_run: Path, tmp_path: Path) -> None:
    flags = ("--recipe", "finetune-lr1e-3", "--image-size", "8", "--weights", finished_run, "--dry-run", "--json")
    code, out, err = ntksap("prune-finetune-export", "resnet20", *flags, "--out", tmp_path / "out")
    settings = json.loads(out)["config"]

    assert code == 0, err
    assert (0.001, 120, "l1", "channel") == tuple(settings[key] for key in ("lr", "epochs", "method", "pattern"))
    assert not (tmp_path / "out").exists()


def test_without_weights_there_is_nothing_to_fine_tune(ntksap: Call, tmp_path: Path) -> None:
    code, _, err = ntksap("prune-finetune-export", "resnet20", "--out", tmp_path / "out")

    assert code == 2
    assert "error: prune-finetune-export prunes a trained network, got none; give --weights FILE" in err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fc.weight": torch.zeros(7, 64)}, "1 mis-shaped ('fc.weight': file (7, 64), model (10, 64))"),
        ({"fc.weight": None}, "1 missing ('fc.weight')"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    ntksap: Call, tmp_path: Path, change: dict[str, torch.Tensor | None], said: str
) -> None:
    state = {**models.build("resnet20", 10).state_dict(), **change}
    torch.save({name: value for name, value in state.items() if value is not None}, tmp_path / "w.pt")
    flags = ("--weights", tmp_path / "w.pt", "--image-size", "8")
    code, out, err = ntksap("prune-finetune-export", "resnet20", *flags, "--out", tmp_path / "out")

    assert (4, "") == (code, out)
    assert f"do not fit: {said}; they must be of this model" in err
    assert not (tmp_path / "out").exists()


def test_methods_are_listed_by_what_they_are_for(ntksap: Call) -> None:
    _, out, _ = ntksap("list", "methods", "--json")
    kinds = {row["name"]: row["kind"] for row in json.loads(out)}

    assert ("initialization", "trained", "search") == tuple(kinds[name] for name in ("ntksap", "l1", "tpp"))
    assert list(dict.fromkeys(kinds.values())) == ["initialization", "trained", "search"]
