"""Classifiers of torchvision and timm: built by name, never downloaded, clear where they are not installed."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from ntksap_export import networks
from ntksap_export.errors import ConfigError, UnavailableError
from ntksap_export.networks import libraries

from ..support.torchvision import torchvision_models


@pytest.fixture
def torchvision() -> ModuleType:
    return torchvision_models()


def test_a_classifier_of_torchvision_is_theirs(torchvision: ModuleType) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(5)
        theirs = torchvision.mobilenet_v3_small(weights=None, num_classes=4).state_dict()

    ours = networks.check_network("torchvision:mobilenet_v3_small", 4, (3, 32, 32), seed=5)

    assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.state_dict().items())
    assert 224 == networks.info("torchvision:mobilenet_v3_small").image_size


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet5", "torchvision has no classifier 'resnet5'; did you mean torchvision:resnet"),
        ("fasterrcnn_resnet50_fpn", "torchvision has no classifier 'fasterrcnn_resnet50_fpn'"),
        ("ResNet", "torchvision has no classifier 'ResNet'"),
    ],
)
def test_only_classifiers_are_known(torchvision: ModuleType, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        networks.info(f"torchvision:{name}")


def test_heads_that_answer_only_in_training_are_left_away(torchvision: ModuleType) -> None:
    with torch.device("meta"):
        model = torchvision.get_model("googlenet", weights=None, num_classes=3, **libraries._OPTIONS["googlenet"])

    assert (1, 3) == tuple(model.train()(torch.empty(1, 3, 64, 64, device="meta")).shape)


@pytest.mark.parametrize(
    ("library", "said"),
    [
        ("torchvision", r"torchvision is not installed; pip install 'ntksap-export\[vision\]'"),
        ("timm", r"timm is not installed; pip install 'ntksap-export\[timm\]'"),
    ],
)
def test_a_library_that_is_not_installed(library: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str, *_: object) -> Any:
        if name.partition(".")[0] == library:
            raise ModuleNotFoundError(f"No module named '{library}'", name=library)
        return SimpleNamespace()

    monkeypatch.setattr(importlib, "import_module", absent)

    with pytest.raises(UnavailableError, match=said):
        networks.info(f"{library}:resnet18")


def test_a_library_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str, *_: object) -> Any:
        raise RuntimeError("wrong version\nof something")

    monkeypatch.setattr(importlib, "import_module", broken)

    with pytest.raises(
        UnavailableError, match=rf"torchvision does not load beside torch {torch.__version__[:4]}.*: wrong"
    ):
        networks.info("torchvision:resnet18")


def fake_timm(made: list[tuple[str, dict[str, Any]]]) -> SimpleNamespace:
    def create_model(name: str, **options: Any) -> nn.Module:
        made.append((name, options))
        if name == "broken":
            raise RuntimeError("no\nway")
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, options["num_classes"]))

    return SimpleNamespace(
        list_models=lambda: ["tiny", "broken"],
        get_pretrained_cfg=lambda name, allow_unregistered: SimpleNamespace(input_size=(3, 8, 8)),
        create_model=create_model,
    )


def test_timm_is_asked_for_random_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(libraries, "torchvision_models", lambda: None)
    monkeypatch.setitem(sys.modules, "timm", fake_timm(made))  # type: ignore[arg-type]

    networks.check_network("timm:tiny.some_tag", 5, (3, 8, 8))

    assert [("tiny.some_tag", {"pretrained": False, "num_classes": 5})] * 2 == made
    assert 8 == networks.info("timm:tiny").image_size
    with pytest.raises(ConfigError, match="timm has no classifier 'tony'; did you mean timm:tiny"):
        networks.info("timm:tony")
    with pytest.raises(ConfigError, match=r"model 'timm:broken' cannot be built: RuntimeError: no$"):
        networks.build("timm:broken", 5)


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
def test_a_classifier_of_the_real_timm() -> None:
    model = networks.check_network("timm:resnet18", 5, (3, 32, 32))

    assert (5, 512) == tuple(model.get_parameter("fc.weight").shape)
    assert 224 == networks.info("timm:resnet18").image_size
