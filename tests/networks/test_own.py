"""A user's own network: how it is found, what is asked of it, and what is said when it does not do."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

from ntksap_export import networks
from ntksap_export.errors import ConfigError

from ..support.own import own_module

SHAPE = (3, 16, 16)


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return own_module(tmp_path, monkeypatch)


def checked(name: str) -> torch.nn.Module:
    return networks.check_network(name, 10, SHAPE)


@pytest.mark.parametrize("factory", ["make", "by_any_keyword", "of_ten", "Net"])
def test_a_factory_may_take_the_number_of_classes_or_not(nets: str, factory: str) -> None:
    model = checked(f"{nets}:{factory}")

    assert (10, 16) == tuple(model.get_parameter("fc.weight").shape)
    assert model.training


def test_weights_follow_from_the_seed_alone(nets: str) -> None:
    torch.manual_seed(1)
    first = networks.build(f"{nets}:make", 10, seed=3).state_dict()
    before = torch.get_rng_state()
    again = networks.build(f"{nets}:make", 10, seed=3).state_dict()
    other = networks.build(f"{nets}:make", 10, seed=4).state_dict()

    assert all(torch.equal(tensor, again[key]) for key, tensor in first.items())
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])
    assert torch.equal(before, torch.get_rng_state())


def test_checking_leaves_the_random_state_and_the_network_alone(nets: str) -> None:
    before = torch.get_rng_state()

    model = checked(f"{nets}:make")

    assert torch.equal(before, torch.get_rng_state())
    assert 0 == int(model.get_buffer("bn1.num_batches_tracked"))


def test_what_the_module_prints_goes_to_standard_error(nets: str, capsys: pytest.CaptureFixture[str]) -> None:
    checked(f"{nets}:make")

    out, err = capsys.readouterr()
    assert "" == out
    assert "a module that talks" in err
    assert "a factory that talks" in err


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        (
            "of_seven",
            r"must answer \(2, 10\) for 2 images and 10 classes; got \(2, 7\). Does its factory take num_class",
        ),
        ("raising", r"raised ValueError: two \(own_nets_\d+\.py, line \d+\)$"),
        ("leaving", r"raised SystemExit: 3 \(own_nets"),
        ("no_module", "must return an nn.Module; got int"),
        ("half", "must be float32; 'conv1.weight' is torch.float16"),
        ("lazy", "'1.weight' has no values yet; give every layer its sizes"),
        ("frozen", "'conv1.weight' is frozen; leave requires_grad on"),
        ("nothing_to_prune", "has no Conv2d and no Linear, so nothing to prune"),
        ("other_each_time", "is not the same each time it is built: 'fc.bias' differs"),
        ("not_filled", "'fc.bias' holds NaN at its initialization; fill every weight"),
        ("same_object", "must return a new network each time"),
        ("Pair", "must answer a tensor of logits; got tuple in train mode"),
        ("Whole", r"must answer \(2, 10\) for 2 images and 10 classes; got \(1, 10\)"),
        (
            "Broken",
            r"cannot take images of shape \(2, 3, 16, 16\) in train mode: KeyError: 'lost'; try another --image",
        ),
        ("Infinite", "answers NaN or infinity"),
        ("constant", "'constant' is a int; name a function or class"),
        ("mkae", "has no 'mkae'; did you mean make"),
        ("Net.nothing", "has no 'nothing'; define nothing there"),
    ],
)
def test_what_will_not_do_is_one_line(nets: str, factory: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        checked(f"{nets}:{factory}")

    assert f"model '{nets}:{factory}'" in str(caught.value)
    assert 1 == len(str(caught.value).splitlines())


def test_a_decision_by_value_is_refused_where_costs_are_counted(nets: str) -> None:
    with pytest.raises(
        ConfigError, match=r"cannot be run on the meta device, where its cost is counted: RuntimeError: .*item.*"
    ):
        checked(f"{nets}:Deciding")


@pytest.mark.parametrize("name", ["a b:make", "nets:", "nets:a-b", "..nets:make", "hf-hub:timm/x", "a:b:c", "a/b:c"])
def test_a_name_that_is_none_tells_how_to_write_one(name: str) -> None:
    with pytest.raises(ConfigError, match=r"package\.module:factory"):
        networks.info(name)


def test_a_module_that_is_not_found_is_named_with_what_to_do() -> None:
    with pytest.raises(ConfigError) as caught:
        networks.build("no_such_place.nets:make", 10)

    assert (
        "model 'no_such_place.nets:make': no module 'no_such_place.nets' is found; start ntksap in the directory that "
        "holds no_such_place.py or no_such_place/, install it, or set PYTHONPATH. Every stage of a run imports it again"
    ) == str(caught.value)


def test_a_module_that_fails_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = own_module(tmp_path, monkeypatch, "import os\nimport no_such_library\n")
    wrong = own_module(tmp_path, monkeypatch, "def make(:\n")

    with pytest.raises(
        ConfigError, match=rf"importing '{missing}' .* No module named 'no_such_library' \(.*, line 2\)"
    ):
        networks.info(f"{missing}:make")
    with pytest.raises(ConfigError, match=f"importing '{wrong}' for model '{wrong}:make' raised SyntaxError"):
        networks.info(f"{wrong}:make")


def test_a_file_is_not_a_module(nets: str) -> None:
    with pytest.raises(ConfigError, match=f"names a file; write the module: {nets}:make"):
        networks.info(f"{nets}.py:make")


def test_the_current_directory_is_searched_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_here.py").write_text("from torch import nn\n\ndef make():\n    return nn.Linear(1, 1)\n")
    (tmp_path / "json.py").write_text("raise RuntimeError('not the real one')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])

    networks.info("own_here:make")

    assert str(tmp_path) == sys.path[-1]


def test_a_stem_is_ours_alone(nets: str) -> None:
    with pytest.raises(ConfigError, match="--stem chooses the first layers of our own networks; got 'cifar'"):
        networks.build(f"{nets}:make", 10, stem="cifar")


def test_who_is_whose() -> None:
    names = ("resnet20", "torchvision:resnet18", "timm:resnet18", "nets:make")

    assert [False, False, False, True] == [networks.is_own(name) for name in names]


def test_our_own_table_is_reached_by_the_same_road() -> None:
    facts = networks.info("mlp7")

    assert (32, 32, True, False) == (facts.image_size, facts.sample_size, facts.fixed_size, facts.stems)
    assert (224, 64, False, True) == tuple(getattr(networks.info("resnet18"), key) for key in facts.__slots__)
    with pytest.raises(ConfigError, match=re.escape("unknown model 'resnet5O'; did you mean")):
        networks.info("resnet5O")
    with pytest.raises(ConfigError, match="num_classes must be at least 1"):
        networks.build("resnet20", 0)
