"""Every network of the tables as a plan, against onnxruntime on the dense graph at 1e-4 of the logits' scale."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from ntksap_export import models, networks
from ntksap_export.engine import Converted
from ntksap_export.graph import Graph, export, optimize
from ntksap_export.masks import Mask
from tests.engine.engine_cases import agreed, images, kinds, run_dense
from tests.graph.conftest import season_
from tests.support.torchvision import torchvision_models

# one of each family: the others differ in depth and width
FAST = ("resnet20", "mobilenet_v3_large", "vgg11_bn", "mlp7", "lenet5_linear")
SLOW = tuple(name for name in models.MODELS if name not in FAST)
TORCHVISION = {
    "densenet121": 64,
    "efficientnet_b0": 64,
    "googlenet": 64,
    "inception_v3": 96,
    "mnasnet0_5": 64,
    "mobilenet_v3_small": 64,
    "regnet_y_400mf": 64,
    "resnext50_32x4d": 64,
    "shufflenet_v2_x0_5": 64,
    "squeezenet1_0": 64,
}
FAST_TORCHVISION = ("shufflenet_v2_x0_5", "squeezenet1_0")


def pruned(name: str, size: int, channels: int = 3) -> Graph:
    """The network with a random mask of 30 %, weights as much larger, and norms that have seen images."""
    model = networks.build(name, 10, 0)
    season_(model)
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.data *= 0.3**-0.5
    draw = torch.Generator().manual_seed(1)
    mask = Mask({key: torch.rand(kept.shape, generator=draw) < 0.3 for key, kept in Mask.dense(model).items()})
    sample = torch.randn(1, channels, size, size, generator=draw)
    return optimize(export(model.eval(), sample, mask=mask))[0]


@cache
def checked(name: str, size: int, channels: int = 3) -> Converted:
    """Converted; the logits must be more than rounding."""
    graph, x = pruned(name, size, channels), images(2, channels, size, size)
    assert np.ptp(run_dense(graph, x)[0]) > 1e-2
    return agreed(graph, x)


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_our_networks(name: str) -> None:
    channels = 1 if name.startswith(("mlp", "lenet")) else 3
    size = 64 if "mobilenet" in name else 32
    converted = checked(name, size, channels)

    assert 1 == converted.regions
    assert name.startswith("mlp") == bool(converted.left)  # they average over the channels first


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FAST_TORCHVISION else pytest.mark.slow) for name in TORCHVISION]
)
def test_networks_of_torchvision(name: str) -> None:
    torchvision_models()
    converted = checked(f"torchvision:{name}", TORCHVISION[name])

    # channels are shuffled through five axes, and Inception normalizes them one by one
    assert {"shufflenet_v2_x0_5": {"Reshape", "Split", "Transpose"}}.get(name, set()) == {
        item.op_type for item in converted.left
    }


def test_a_residual_network_is_little_but_convolutions() -> None:
    found = kinds(checked("resnet20", 32))

    assert (22, 1) == (found.count("Conv"), len(found) - found.count("Conv"))
