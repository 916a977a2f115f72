"""ResNets beside torchvision's: the same names, the same shapes, the same function."""

from __future__ import annotations

import pytest
import torch

from ntksap_export import models

from ..support.torchvision import torchvision_models


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_names_shapes_and_logits_equal_torchvisions(name: str) -> None:
    theirs = getattr(torchvision_models(), name)(weights=None, num_classes=1000).eval()
    ours = models.build(name, num_classes=1000).eval()
    generator = torch.Generator().manual_seed(0)
    for key, tensor in theirs.state_dict().items():  # else BatchNorm would hide a wrong order
        if "running" in key or "bn" in key or "downsample.1" in key:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.5 + 0.5)
    images = torch.randn(1, 3, 64, 64, generator=generator)
    shapes = {key: tuple(tensor.shape) for key, tensor in ours.state_dict().items()}
    before = ours(images)

    ours.load_state_dict(theirs.state_dict(), strict=True)

    assert {key: tuple(tensor.shape) for key, tensor in theirs.state_dict().items()} == shapes
    assert list(dict(theirs.named_parameters())) == list(dict(ours.named_parameters()))
    assert torch.equal(theirs(images), ours(images))
    assert not torch.equal(before, ours(images))
