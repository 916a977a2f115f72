"""Each layer's Jacobian beside its matrix, built column by column."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from ntksap_export.analysis import layers
from ntksap_export.analysis.layers import ConvolutionMap, LayerIsometry, layer_isometry
from ntksap_export.errors import ConfigError

from ..support.nets import block_net, random_mask

CONVOLUTIONS = {
    "padded": nn.Conv2d(3, 4, 3, padding=1),
    "strided": nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=False),
    "dilated": nn.Conv2d(2, 3, 3, padding=2, dilation=2),
    "grouped": nn.Conv2d(4, 6, 3, padding=1, groups=2),
    "depthwise": nn.Conv2d(4, 4, 3, padding=1, groups=4),
    "pointwise": nn.Conv2d(4, 3, 1),
    "pointwise, strided": nn.Conv2d(3, 5, 1, stride=2),
    "pointwise, strided, less out": nn.Conv2d(8, 2, 1, stride=2),
    "circular": nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular"),
}


def columns(layer: nn.Conv2d, size: int) -> torch.Tensor:
    """What the layer without its bias makes of each unit image, (rows, columns)."""
    units = torch.eye(layer.in_channels * size * size, dtype=torch.float64)
    images = units.view(-1, layer.in_channels, size, size)
    weight, padding = layer.weight.detach().double(), layer.padding
    if layer.padding_mode == "circular":
        images, padding = functional.pad(images, (1, 1, 1, 1), mode="circular"), 0
    answers = [
        functional.conv2d(image[None], weight, None, layer.stride, padding, layer.dilation, layer.groups).flatten()
        for image in images
    ]
    return torch.stack(answers, 1)


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_convolution_is_its_matrix(kind: str) -> None:
    layer = CONVOLUTIONS[kind]
    layer.weight.data.view(-1)[::3] = 0
    values = torch.linalg.svdvals(columns(layer, 5))

    (found,) = layer_isometry(layer, torch.zeros(1, layer.in_channels, 5, 5))

    smallest = float(values.min()) if float(values.min()) > 1e-12 else 0.0
    assert (len(values), True) == (found.rank, found.exact)
    assert float(values.mean()) == pytest.approx(found.mean, rel=1e-10)
    assert float(values.std(correction=0)) == pytest.approx(found.std, rel=1e-10)
    assert (float(values.max()), smallest) == pytest.approx((found.max, found.min), rel=1e-9)
    assert (float(values.max()) / smallest if smallest else math.inf) == pytest.approx(found.condition, rel=1e-8)


def test_its_map_and_the_transposed_one() -> None:
    layer = nn.Conv2d(3, 4, 3, stride=2, padding=1).double()
    matrix, found = columns(layer, 6), ConvolutionMap(layer, (3, 6, 6))
    generator = torch.Generator().manual_seed(0)
    inner, outer = (torch.randn(2, size, dtype=torch.float64, generator=generator) for size in (108, 36))

    torch.testing.assert_close(found.forward(inner), inner @ matrix.T)
    torch.testing.assert_close(found.adjoint(outer), outer @ matrix)
    torch.testing.assert_close(found.matrix(), matrix)


def test_a_large_one_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Conv2d(6, 8, 3, padding=1)
    images = torch.zeros(1, 6, 9, 9)
    (exact,) = layer_isometry(layer, images)

    monkeypatch.setattr(layers, "_SVD_WORK", 0)
    (estimated,) = layer_isometry(layer, images)

    assert (True, False) == (exact.exact, estimated.exact)
    assert exact.rank == estimated.rank
    assert exact.mean == pytest.approx(estimated.mean, rel=0.03)
    assert exact.std == pytest.approx(estimated.std, rel=0.08)
    assert exact.max == pytest.approx(estimated.max, rel=0.01)
    assert exact.min <= estimated.min


def test_every_layer_of_a_masked_network_at_its_own_size() -> None:
    net = block_net()
    random_mask(net, 0.5).apply_(net)

    found = {layer.name: layer for layer in layer_isometry(net, torch.zeros(2, 3, 8, 8))}

    assert ["stem.weight", "conv1.weight", "shortcut.weight", "fc.weight"] == list(found)
    values = torch.linalg.svdvals(net.fc.weight.detach().double())
    assert float(values.mean()) == pytest.approx(found["fc.weight"].mean)
    assert float(torch.linalg.svdvals(columns(net.conv1, 8)).mean()) == pytest.approx(found["conv1.weight"].mean)
    assert float(torch.linalg.svdvals(columns(net.shortcut, 8)).mean()) == pytest.approx(found["shortcut.weight"].mean)
    assert 16 * 16 == found["conv1.weight"].rank


def test_a_shared_layer_once_and_one_that_never_runs_not_at_all() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.spare = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            answer: torch.Tensor = self.one(self.one(x.flatten(1)))
            return answer

    assert ["one.weight"] == [layer.name for layer in layer_isometry(Shared(), torch.zeros(1, 1, 2, 2))]


def test_to_json() -> None:
    layer = LayerIsometry("fc.weight", 1.0, 0.5, 0.0, 2.0, math.inf, 4, True)

    assert {
        "name": "fc.weight",
        "mean": 1.0,
        "std": 0.5,
        "min": 0.0,
        "max": 2.0,
        "condition": None,
        "rank": 4,
        "exact": True,
    } == layer.to_json()


def test_what_cannot_be_looked_at() -> None:
    layer = nn.Conv2d(3, 4, 3)

    with pytest.raises(ConfigError, match="cannot take an image of shape"):
        layer_isometry(layer, torch.zeros(1, 2, 5, 5))
    with pytest.raises(ConfigError, match=r"'weight' as a matrix, 1296 x 1200, needs .* --memory allows 0.98 KiB"):
        layer_isometry(layer, torch.zeros(1, 3, 20, 20), memory_bytes=1000)
    layer.weight.data[0] = torch.nan
    with pytest.raises(ConfigError, match="'weight' is NaN or infinite"):
        layer_isometry(layer, torch.zeros(1, 3, 5, 5))
