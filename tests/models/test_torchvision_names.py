"""Our ImageNet networks beside torchvision's: the same names, the same shapes, the same function."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch
from torch import nn

from ntksap_export import models

from ..support.torchvision import torchvision_models


def made(name: str, num_classes: int) -> nn.Module:
    """By its factory alone, on whatever device is the default: `build` would draw weights."""
    entry = models.info(name)
    module, function = entry.factory.split(":")
    options = {"stem": "imagenet"} if entry.stems else {}
    network = getattr(import_module(module), function)(num_classes=num_classes, **options, **entry.arguments)
    assert isinstance(network, nn.Module)
    return network


@pytest.mark.parametrize("name", [name for name, info in models.MODELS.items() if info.stems])
def test_names_and_shapes_equal_torchvisions(name: str) -> None:
    theirs = torchvision_models()
    with torch.device("meta"):
        expected = getattr(theirs, name)(weights=None, num_classes=7)
        ours = made(name, num_classes=7)

    assert [(key, tensor.shape) for key, tensor in expected.state_dict().items()] == [
        (key, tensor.shape) for key, tensor in ours.state_dict().items()
    ]
    assert list(dict(expected.named_parameters())) == list(dict(ours.named_parameters()))


@pytest.mark.parametrize("name", ["vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"])
def test_features_of_vggs_are_torchvisions(name: str) -> None:
    theirs = torchvision_models()
    with torch.device("meta"):
        expected = getattr(theirs, name)(weights=None).features.state_dict()
        ours = made(name, num_classes=7).get_submodule("features").state_dict()

    assert [(key, tensor.shape) for key, tensor in expected.items()] == [
        (key, tensor.shape) for key, tensor in ours.items()
    ]


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "wide_resnet50_2", "mobilenet_v2", "mobilenet_v3_large"])
def test_logits_equal_torchvisions(name: str) -> None:
    theirs = getattr(torchvision_models(), name)(weights=None, num_classes=10).eval()
    ours = models.build(name, num_classes=10).eval()
    generator = torch.Generator().manual_seed(0)
    norms = [module for module in theirs.modules() if isinstance(module, nn.BatchNorm2d)]
    for tensor in (tensor for norm in norms for tensor in norm.state_dict().values()):
        if tensor.dim():  # else BatchNorm would hide a wrong order
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.5 + 0.5)
    images = torch.randn(1, 3, 64, 64, generator=generator)
    before = ours(images)

    ours.load_state_dict(theirs.state_dict(), strict=True)

    assert torch.equal(theirs(images), ours(images))
    assert not torch.equal(before, ours(images))
