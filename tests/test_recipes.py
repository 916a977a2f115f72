"""Recipes: each can be used as it is, says where it comes from, and has the network that its paper had."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from ntksap_export import networks, recipes
from ntksap_export.config import FREE_KEYS, PRUNE_KEYS, TRAIN_KEYS, make_config
from ntksap_export.config_file import parse_toml, read_toml
from ntksap_export.data.table import DATA_SETS
from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask
from ntksap_export.pipeline import resolve
from ntksap_export.pipeline.choose import find_goals
from ntksap_export.pipeline.context import Context
from ntksap_export.pipeline.run_dir import RunDir, fingerprint
from ntksap_export.progress import Silent
from ntksap_export.training import train_config

HOME = Path(recipes.__file__).parent / "training" / "recipes"
ASKED_FOR = {
    "ntksap-cifar10", "ntksap-cifar100", "ntksap-tiny-imagenet", "ntksap-imagenet-resnet18", "ntksap-imagenet-resnet50",
    "isometry-mlp7", "isometry-lenet5", "isometry-resnet56", "isometry-resnet56-lr1e-3", "isometry-imagenet",
    "imagenet-modern", "cifar-fast", "finetune", "finetune-lr1e-3",
}  # fmt: skip


ANY = {"finetune", "finetune-lr1e-3"}  # of any network and data
PLACED = tuple(name for name in recipes.names() if name not in ANY)


def whole(name: str) -> dict[str, Any]:
    """A recipe's settings, with a network where it leaves that open."""
    return {"model": "resnet20", **recipes.read(name)}


def on_digits(name: str, **changes: Any) -> Context:
    """The run of a recipe, on the embedded data, as far as it goes without writing."""
    config, look = resolve(make_config({**whole(name), "data": "digits", **changes}))
    return Context(config, RunDir(Path("no such run")), Silent(), look.name)


def test_every_file_is_a_recipe_and_all_that_were_asked_for_are_there() -> None:
    assert sorted(path.stem for path in HOME.iterdir()) == list(recipes.names())
    assert set(recipes.names()) >= ASKED_FOR


@pytest.mark.parametrize("name", recipes.names())
def test_each_is_a_configuration_that_resolves(name: str) -> None:
    config, _ = resolve(make_config({**whole(name), "data": "digits"}))

    settings = train_config(config)
    assert name == config.recipe
    assert recipes.read(name)["epochs"] == settings.epochs
    assert recipes.read(name)["lr"] == settings.lr


@pytest.mark.parametrize("name", recipes.names())
def test_each_says_what_training_needs_and_leaves_the_rest_alone(name: str) -> None:
    values = recipes.read(name)

    assert {"epochs", "batch_size", "lr", "augment", "weight_decay", "nesterov"} <= set(values)
    assert ({"model", "data"} <= set(values)) == (name not in ANY)
    assert not (set(values) - {"recipe", "density"}) - {*PRUNE_KEYS, *TRAIN_KEYS}
    assert not set(values) & {"seed", "weights", "mean", "std", "num_classes", *FREE_KEYS} - {"recipe"}


@pytest.mark.parametrize("name", PLACED)
def test_each_has_data_that_we_know_and_a_network_for_their_images(name: str) -> None:
    values = recipes.read(name)
    data = DATA_SETS[values["data"]]

    assert networks.info(values["model"]).image_size in (data.image_size, 32 if data.image_size == 28 else 224)
    assert values.get("crop_scale", (0.08, 1.0)) == (0.08, 1.0) or values["augment"] == "resized-crop"


@pytest.mark.parametrize("name", recipes.names())
def test_each_file_tells_its_source_and_its_lines_are_short(name: str) -> None:
    lines = recipes.text(name).splitlines()
    head = " ".join(line.removeprefix("#").strip() for line in lines[: lines.index(next(filter(is_key, lines)))])

    assert all(len(line) <= 120 for line in lines)
    assert any(word in head for word in ("Source:", "after torchvision", "were not found"))
    assert 20 < len(recipes.summary(name)) < 100


def is_key(line: str) -> bool:
    return line.startswith(("model = ", "augment = "))


@pytest.mark.parametrize("name", recipes.names())
def test_each_file_can_be_given_as_config(name: str) -> None:
    assert recipes.read(name) == {**read_toml(HOME / f"{name}.toml"), "recipe": name}


@pytest.mark.parametrize("name", recipes.names())
def test_each_files_commands_name_itself_or_another(name: str) -> None:
    words = [word.strip(".,`)") for word in recipes.text(name).split()]

    named = [words[i + 1] for i, word in enumerate(words) if word == "--recipe"]
    assert set(named) <= set(recipes.names())


@pytest.mark.parametrize(
    ("name", "classes", "weights"),
    [
        ("ntksap-cifar10", 10, 270_896),
        ("ntksap-cifar100", 100, 14_761_664),
        ("ntksap-tiny-imagenet", 200, 11_269_312),
        ("ntksap-imagenet-resnet18", 1000, 11_678_912),
        ("ntksap-imagenet-resnet50", 1000, 25_502_912),
        ("isometry-mlp7", 10, 153_400),
        ("isometry-lenet5", 10, 61_470),
        ("isometry-resnet56", 10, 851_504),
    ],
)
def test_the_networks_have_the_weights_that_the_files_say(name: str, classes: int, weights: int) -> None:
    values = recipes.read(name)

    model = networks.build(values["model"], classes, stem=values.get("stem", "auto"))
    assert weights == Mask.dense(model).total
    assert f"{weights:,}" in recipes.text(name) or name == "isometry-lenet5"


def test_the_papers_vgg_has_biases_and_their_tiny_imagenet_network_the_large_stem() -> None:
    vgg = networks.build("vgg16_bn", 100)
    tiny = networks.build("resnet18", 200, stem=recipes.read("ntksap-tiny-imagenet")["stem"])

    assert sum(name.startswith("features.") and name.endswith(".bias") for name, _ in vgg.named_parameters()) == 26
    assert (7, 7) == tuple(tiny.get_parameter("conv1.weight").shape[2:])


@pytest.mark.parametrize("name", ["isometry-mlp7", "isometry-lenet5", "isometry-resnet56"])
def test_the_isometry_recipes_remove_the_papers_share_of_each_layer(name: str) -> None:
    """Its number of filters is rounded up: ceil(share * n) of n go; one stays where none would."""
    from ntksap_export.pipeline.choose import choose_mask

    context = on_digits(name)
    find_goals(context, context.build_dense())

    plan = choose_mask(context).plan
    assert plan is not None
    share = Fraction(str(recipes.read(name)["channel_sparsity"]))
    for row in plan.summary()["groups"]:
        left = max(1, row["channels"] - math.ceil(share * row["channels"]))
        assert (row["channels"] if row["reason"] else left) == row["kept"], row


def test_an_unknown_name_suggests_near_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown recipe 'ntksap-cifar1O'; did you mean ntksap-cifar10.*list recipes"
    ):
        recipes.read("ntksap-cifar1O")
    with pytest.raises(ConfigError, match=r"unknown recipe 'my\.toml'; a file of your own goes to --config; `ntksap"):
        recipes.text("my.toml")
    with pytest.raises(ConfigError, match=r"unknown recipe '\.\./secret'; `ntksap list recipes` shows all"):
        recipes.text("../secret")


def test_given_values_beat_the_recipe() -> None:
    values = recipes.lay_under({"recipe": "ntksap-cifar10", "lr": 0.05, "density": 0.5}, None)

    assert (0.05, 160, "resnet20") == (values["lr"], values["epochs"], values["model"])
    assert 0.5 == make_config(values).sparsity


def test_without_a_recipe_nothing_is_added() -> None:
    assert {"lr": 0.05, "model": "resnet20"} == recipes.lay_under({"lr": 0.05}, "resnet20")
    assert {"lr": 0.05} == recipes.lay_under({"lr": 0.05, "epochs": None}, None)


@pytest.mark.parametrize(("model", "stem"), [("resnet18", "imagenet"), (None, "imagenet"), ("resnet20", None)])
def test_another_model_does_not_get_the_stem(model: str | None, stem: str | None) -> None:
    assert stem == recipes.lay_under({"recipe": "ntksap-tiny-imagenet"}, model).get("stem")


def test_another_model_of_a_file_does_not_get_the_layers() -> None:
    given = {"recipe": "isometry-resnet56", "model": "resnet20"}

    assert "keep_dense" not in recipes.lay_under(given, None)
    assert "keep_dense" in recipes.lay_under({"recipe": "isometry-resnet56"}, None)


@pytest.mark.parametrize(
    ("name", "given", "gone"),
    [
        ("ntksap-tiny-imagenet", {"augment": "none"}, {"crop_scale", "crop_ratio"}),
        ("isometry-resnet56", {"pattern": "unstructured"}, {"round_to", "channel_sparsity", "keep_dense"}),
        ("isometry-resnet56", {"pattern": "channel"}, set()),
    ],
)
def test_what_is_said_with_an_overruled_value_goes_with_it(name: str, given: dict[str, str], gone: set[str]) -> None:
    values = recipes.lay_under({"recipe": name, **given}, None)

    assert gone == set(recipes.read(name)) - set(values)
    assert name == make_config(values).recipe


def test_training_without_the_recipes_crops_has_the_usual_ones() -> None:
    values = recipes.training({"recipe": "ntksap-tiny-imagenet", "augment": "none"})

    assert ("none", [0.08, 1.0], 0.2) == (values["augment"], values["crop_scale"], values["lr"])
    assert [0.1, 1.0] == recipes.training({"recipe": "ntksap-tiny-imagenet"})["crop_scale"]


def test_training_takes_all_of_its_settings_and_none_of_pruning() -> None:
    values = recipes.training({"recipe": "ntksap-cifar10"})

    assert {*TRAIN_KEYS, "recipe"} == set(values)
    assert (160, False, 0.0, "ntksap-cifar10") == (
        values["epochs"],
        values["nesterov"],
        values["mixup"],
        values["recipe"],
    )


def test_differences_are_told_by_flag() -> None:
    config = make_config({**recipes.read("ntksap-cifar10"), "lr": 0.05, "rounds": 3})
    settings = {key.replace("_", "-"): value for key, value in config.model_dump(mode="json").items()}

    assert {"rounds": (20, 3), "lr": (0.1, 0.05)} == recipes.differences("ntksap-cifar10", settings, ("prune", "train"))
    assert {"rounds": (20, 3)} == recipes.differences("ntksap-cifar10", settings, ("prune",))


def test_the_name_of_a_recipe_changes_no_fingerprint() -> None:
    values = recipes.read("cifar-fast")

    named, nameless = make_config(values), make_config({**values, "recipe": None})
    assert fingerprint("train", named) == fingerprint("train", nameless)


def test_only_a_table_called_about_is_for_readers() -> None:
    assert ({"lr": 0.1}, {"summary": "x"}) == parse_toml('lr = 0.1\n[about]\nsummary = "x"', "here")
    with pytest.raises(ConfigError, match="here: unknown key 'about'"):
        parse_toml("about = 3", "here")
