"""Recipes: settings of published and of fast trainings, by name. Free of torch.

    make_config({**recipes.read("ntksap-cifar10"), "data": "path/to/cifar10"})

Each is a TOML file in `training/recipes`, with the same keys as `--config` and a table `about`; its header says where
the values come from, what was not found, and what accuracy to expect.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from ntksap_export.config import STAGE_KEYS, defaults, flag_name, make_config, merge
from ntksap_export.config_file import parse_toml
from ntksap_export.errors import ConfigError

_HOME = files("ntksap_export") / "training" / "recipes"
# What is said with a value that is then overruled goes with it: another model may not know the stem.
_GOES_WITH = {
    "model": ("stem", "keep_dense"),
    "pattern": ("keep_dense", "min_layer_density", "round_to", "channel_sparsity"),
    "scope": ("channel_sparsity",),
    **dict.fromkeys(("sparsity", "params", "flops", "budget"), ("channel_sparsity",)),
    "augment": ("crop_scale", "crop_ratio"),
}


@cache
def names() -> tuple[str, ...]:
    """All recipes, in alphabetical order."""
    return tuple(sorted(path.name.removesuffix(".toml") for path in _HOME.iterdir() if path.name.endswith(".toml")))


def text(name: str) -> str:
    """The file of a recipe as it is.

    Raises:
        ConfigError: no such recipe; near names are suggested.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        if name.endswith(".toml"):
            hint = "a file of your own goes to --config; "
        raise ConfigError(f"unknown recipe '{name}'; {hint}`ntksap list recipes` shows all")
    return (_HOME / f"{name}.toml").read_text(encoding="utf-8")


def read(name: str) -> dict[str, Any]:
    """The settings of a recipe as keys of `RunConfig`, its model, its data and its own name among them.

    Raises:
        ConfigError: no such recipe.
    """
    values, _ = parse_toml(text(name), f"recipe '{name}'")
    return {**values, "recipe": name}


def summary(name: str) -> str:
    """What a recipe is, in a line.

    Raises:
        ConfigError: no such recipe.
    """
    _, about = parse_toml(text(name), f"recipe '{name}'")
    return str(about["summary"])


def lay_under(values: Mapping[str, Any], model: str | None) -> dict[str, Any]:
    """Fill what `values` leave open from the recipe that they name; without one, nothing.

    Args:
        values: keys of `RunConfig`, of flags and of a file.
        model: where it is named, before all others.

    Raises:
        ConfigError: no such recipe.
    """
    given = {
        key: value for key, value in {**values, "model": model or values.get("model")}.items() if value is not None
    }
    if "recipe" not in given:
        return given
    return merge(_what_holds(read(str(given["recipe"])), given), given)


def training(given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of the train stage, for a network that is pruned already: those given, over the recipe they name.

    What neither says has its default, whatever was set before.

    Args:
        given: keys of `RunConfig`, `recipe` among them.

    Raises:
        ConfigError: no such recipe.
    """
    recipe = _what_holds(read(str(given["recipe"])), given)
    return {**{key: recipe.get(key, value) for key, value in defaults("train").items()}, **given}


def _what_holds(recipe: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    overruled = [key for key in _GOES_WITH if given.get(key, recipe.get(key)) != recipe.get(key)]
    gone = {follower for key in overruled for follower in _GOES_WITH[key]}
    return {key: value for key, value in recipe.items() if key not in gone}


def differences(name: str, settings: Mapping[str, Any], stages: tuple[str, ...]) -> dict[str, tuple[Any, Any]]:
    """Flag -> (the recipe's value, the run's) where a run departs from its recipe, as plain JSON values.

    Args:
        name: of the recipe.
        settings: of the run by flag, as config.json holds them.
        stages: whose settings are looked at.

    Raises:
        ConfigError: no such recipe.
    """
    said = read(name)
    recipe = make_config(said).model_dump(mode="json")
    keys = [key for stage in stages for key in STAGE_KEYS[stage] if key in said]
    pairs = {flag_name(key): (recipe[key], settings.get(flag_name(key))) for key in keys}
    return {flag: pair for flag, pair in pairs.items() if pair[0] != pair[1]}
