"""Each layer's gradients by image, without what would take its place where they were wrong."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ntksap_export.analysis.differentiable import Differentiable
from ntksap_export.analysis.per_image import PerImage
from tests.support.nets import tiny_net

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "conv": (nn.Conv2d(3, 4, 3, padding=1), (3, 5, 6)),
    "stride, dilation": (nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(2, 0), dilation=(1, 2)), (3, 7, 6)),
    "point": (nn.Conv2d(3, 4, 1, bias=False), (3, 5, 6)),
    "point, stride": (nn.Conv2d(3, 4, 1, stride=2), (3, 5, 6)),
    "groups": (nn.Conv2d(4, 6, 3, groups=2), (4, 5, 6)),
    "depthwise": (nn.Conv2d(4, 8, 3, groups=4, padding=1), (4, 5, 6)),
    "linear": (nn.Linear(5, 3), (5,)),
    "linear of tokens": (nn.Linear(5, 3), (7, 2, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_gradient_for_each_image(name: str) -> None:
    layer, shape = LAYERS[name]
    layer.double()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, *shape, dtype=torch.float64, generator=generator).requires_grad_()
    above = torch.randn(layer(x).shape, dtype=torch.float64, generator=generator)
    leaf = layer.weight.detach().expand(4, *layer.weight.shape).requires_grad_()

    with PerImage({id(layer.weight): leaf}):
        output = layer(x)
    by_leaf, by_x = torch.autograd.grad(output, [leaf, x], above)

    each = [torch.autograd.grad(layer(x[i : i + 1]), layer.weight, above[i : i + 1])[0] for i in range(4)]
    torch.testing.assert_close(output, layer(x))
    torch.testing.assert_close(by_leaf, torch.stack(each))
    torch.testing.assert_close(by_x, torch.autograd.grad(layer(x), x, above)[0])


class Sampled(nn.Module):
    """Tokens first, images second: the first axis of its linear layer's input does not count the images."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(1).unflatten(1, (-1, 4)).transpose(0, 1)
        logits: torch.Tensor = self.fc(tokens).mean(0)
        return logits


@pytest.mark.parametrize(
    ("model", "shape", "ways"),
    [
        (tiny_net(), (3, 6, 6), ["_by_batch", "_by_vmap"]),
        (tiny_net(track=False), (3, 6, 6), ["_by_vmap"]),  # BatchNorm takes the batch's own statistics
        (Sampled(), (1, 4, 4), ["_by_vmap"]),  # as many tokens as images
    ],
)
def test_the_fast_way_is_taken_where_it_is_right(model: nn.Module, shape: tuple[int, ...], ways: list[str]) -> None:
    work = Differentiable(model, "prunable", None, torch.float64)
    images = torch.randn(4, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    part = next(work.parts(work.columns))

    rows = work.rows(images, torch.ones(1, 3, dtype=torch.float64), part)

    assert ways == [way.__name__ for way in work._ways]
    model.double().eval()
    weights = [model.get_parameter(piece.name) for piece in part]
    for image, row in zip(images, rows[0], strict=True):
        expected = torch.autograd.grad(model(image[None]).sum(), weights)
        torch.testing.assert_close(row, torch.cat([g.flatten() for g in expected]))
