"""`--recipe` and the two ways to look at one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ntksap_export import recipes
from tests.conftest import SMALL_FLAGS

Call = Callable[..., tuple[int, str, str]]


def planned(ntksap: Call, *arguments: object) -> dict[str, Any]:
    code, out, err = ntksap("prune-train-export", *arguments, "--dry-run", "--json")
    assert code == 0, err
    return dict(json.loads(out)["config"])


def test_flags_win_over_the_file_over_the_recipe_over_the_defaults(ntksap: Call, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("lr = 0.3\nepochs = 7\ndata = 'digits'\n")

    config = planned(
        ntksap, "--recipe", "ntksap-cifar10", "--config", tmp_path / "run.toml", "--epochs", 3, "--image-size", 16
    )

    given = {key: config[key] for key in ("epochs", "lr", "draws", "seed", "model", "recipe")}
    assert {"epochs": 3, "lr": 0.3, "draws": 5, "seed": 0, "model": "resnet20", "recipe": "ntksap-cifar10"} == given


def test_a_recipe_may_stand_in_the_file(ntksap: Call, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("recipe = 'ntksap-cifar10'\ndata = 'digits'\n")

    config = planned(ntksap, "--config", tmp_path / "run.toml", "--image-size", 16)

    assert (160, "resnet20") == (config["epochs"], config["model"])


def test_the_model_of_the_command_line_wins_and_leaves_the_stem_behind(ntksap: Call) -> None:
    recipe = "ntksap-tiny-imagenet"
    config = planned(ntksap, "resnet20", "--recipe", recipe, "--data", "digits", "--augment", "none")

    assert ("resnet20", "auto", 200) == (config["model"], config["stem"], config["epochs"])


def test_without_a_model_there_is_one_line(ntksap: Call) -> None:
    code, out, err = ntksap("prune-train-export", "--data", "digits")

    assert (2, "") == (code, out)
    assert "error: name a MODEL, see `ntksap list models`, or a --recipe that brings one\n" == err


@pytest.mark.parametrize(
    "arguments", [("prune-train-export", "--recipe"), ("prune", "resnet20", "--recipe"), ("train", "--show-recipe")]
)
def test_an_unknown_recipe_suggests_near_ones(ntksap: Call, arguments: tuple[str, ...]) -> None:
    code, _, err = ntksap(*arguments, "cifar-fats")

    assert 2 == code
    assert "error: unknown recipe 'cifar-fats'; did you mean cifar-fast? `ntksap list recipes` shows all\n" == err


def test_list_recipes_names_model_data_and_epochs(ntksap: Call) -> None:
    _, out, _ = ntksap("list", "recipes")
    _, as_json, _ = ntksap("list", "recipes", "--json")

    lines = {line.split()[0]: line.split()[1:4] for line in out.splitlines()}
    assert ["resnet20", "cifar10", "160"] == lines["ntksap-cifar10"]
    assert {"recipes", *recipes.names()} == set(lines)
    rows = {row["name"]: row for row in json.loads(as_json)}
    assert {"name", "model", "data", "epochs", "summary"} == set(rows["cifar-fast"])
    assert 10 == rows["cifar-fast"]["epochs"]


@pytest.mark.parametrize("name", ["ntksap-cifar10", "isometry-mlp7"])
def test_show_recipe_prints_the_file_as_it_is(ntksap: Call, name: str) -> None:
    home = Path(recipes.__file__).parent / "training" / "recipes"

    assert (0, (home / f"{name}.toml").read_text(), "") == ntksap("train", "--show-recipe", name)


def test_a_pruned_network_takes_the_training_of_a_recipe_and_nothing_else(
    ntksap: Call, finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = ntksap("train", finished_run, "--recipe", "ntksap-cifar10", "--epochs", 1, "--overwrite")

    assert code == 0, err
    stored = json.loads((finished_run / "config.json").read_text())["ntksap"]["config"]
    kept = {
        key: stored[key] for key in ("epochs", "lr", "nesterov", "schedule", "rounds", "data", "sparsity", "recipe")
    }
    assert {
        "epochs": 1, "lr": 0.1, "nesterov": False, "schedule": "step",
        "rounds": 2, "data": "digits", "sparsity": 0.9, "recipe": "ntksap-cifar10",
    } == kept  # fmt: skip
    assert "recipe ntksap-cifar10: only its training settings are taken; this network was made with" in err
    assert "rounds 2 (recipe: 20)" in err
    assert 1 == len(json.loads((finished_run / "metrics.json").read_text())["history"])


def test_another_recipe_over_a_finished_training_is_another_run(ntksap: Call, finished_run: Path) -> None:
    code, _, err = ntksap("train", finished_run, "--recipe", "ntksap-cifar10")

    assert 4 == code
    assert "holds a different run" in err


def test_the_card_names_the_recipe_and_what_departs_from_it(ntksap: Call, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = [*SMALL_FLAGS, "--data", "digits", "--out", out]
    code, _, err = ntksap("prune-train-export", "--recipe", "cifar-fast", *flags)

    assert code == 0, err
    (row,) = [line for line in (out / "README.md").read_text().splitlines() if line.startswith("| recipe |")]
    assert "| recipe | cifar-fast, but rounds 2, epochs 2 |" == row
