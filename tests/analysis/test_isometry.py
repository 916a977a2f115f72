"""Dynamical isometry beside a brute-force Jacobian and SVD in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from ntksap_export import models
from ntksap_export.analysis.isometry import Isometry, Way, isometry_of, jacobian_values
from ntksap_export.errors import ConfigError

from ..support.nets import random_mask, tiny_net


def noise(count: int, *shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


IMAGES = noise(3, 3, 7, 7)


def brute(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """(N, min(C, D)), by torch.autograd.functional and one SVD after the other."""
    net = model.double().eval()
    rows = []
    for image in images.double():
        jacobian = torch.autograd.functional.jacobian(lambda x: net(x[None])[0], image)
        rows.append(torch.linalg.svdvals(jacobian.flatten(1)))
    return torch.stack(rows)


def masked_net(classes: int = 5) -> nn.Module:
    net = tiny_net(seed=3, classes=classes).eval()
    random_mask(net, 0.5).apply_(net)
    return net


@pytest.mark.parametrize("way", ["exact", "lanczos", "randomized", "auto"])
def test_every_way_finds_the_singular_values_of_the_jacobian(way: Way) -> None:
    net = masked_net()

    found = jacobian_values(net, IMAGES, way=way)

    torch.testing.assert_close(found.values, brute(net, IMAGES), rtol=1e-9, atol=1e-12)
    assert ("exact" if way == "auto" else way) == found.way
    assert 5 == found.rank
    torch.testing.assert_close(found.weights, torch.full((3, 5), 0.2, dtype=torch.float64))


@pytest.mark.parametrize("way", ["exact", "lanczos", "randomized"])
def test_more_outputs_than_inputs(way: Way) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 9), nn.Tanh())

    found = jacobian_values(net, noise(2, 1, 2, 2), way=way)

    torch.testing.assert_close(found.values, brute(net, noise(2, 1, 2, 2)), rtol=1e-9, atol=1e-12)
    assert 4 == found.rank


@pytest.mark.parametrize("way", ["lanczos", "randomized"])
def test_a_jacobian_of_low_rank_has_its_zeros(way: Way) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2), nn.Linear(2, 6))

    found = jacobian_values(net, noise(3, 3, 2, 2), way=way).values
    expected = brute(net, noise(3, 3, 2, 2))

    torch.testing.assert_close(found[:, :2], expected[:, :2], rtol=1e-9, atol=0)
    assert bool((found[:, 2:] < 1e-12).all())
    assert math.inf == isometry_of(jacobian_values(net, noise(1, 3, 2, 2), way=way)).condition


def wide_net() -> nn.Module:
    """400 outputs of 588 inputs, with singular values between 1/4 and 1."""
    layer = nn.Linear(588, 400, bias=False).double()
    left, right = (torch.linalg.qr(noise(side, 400).double()).Q for side in (400, 588))
    layer.weight.data = left @ torch.diag(torch.linspace(1, 0.25, 400, dtype=torch.float64)) @ right.T
    return nn.Sequential(nn.Flatten(), layer)


def test_few_steps_of_lanczos_estimate_mean_spread_and_the_largest() -> None:
    images = noise(8, 3, 14, 14)

    found = jacobian_values(wide_net(), images, count=24)
    isometry = isometry_of(found)
    expected = torch.linspace(1, 0.25, 400, dtype=torch.float64)

    assert ("lanczos", 24, 400) == (isometry.way, isometry.values, isometry.rank)
    assert float(expected.mean()) == pytest.approx(isometry.mean, rel=0.02)
    assert float(expected.std(correction=0)) == pytest.approx(isometry.std, rel=0.05)
    assert float((expected - 1).square().mean()) == pytest.approx(isometry.spread, rel=0.05)
    assert 1.0 == pytest.approx(isometry.max, rel=0.01)
    torch.testing.assert_close(found.weights.sum(1), torch.ones(8, dtype=torch.float64))


def test_the_randomized_way_finds_the_largest() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(100, 60))
    net[1].weight.data = torch.diag_embed(0.7 ** torch.arange(60.0)) @ torch.eye(60, 100)

    found = jacobian_values(net, noise(2, 1, 10, 10), way="randomized", count=5)

    torch.testing.assert_close(found.values, (0.7 ** torch.arange(5.0)).double().expand(2, 5), rtol=1e-6, atol=0)


def test_it_is_summed_up() -> None:
    net = masked_net()
    isometry = isometry_of(jacobian_values(net, IMAGES))
    values = brute(net, IMAGES)
    numbers = [float(value) for value in values.flatten()]
    mean = sum(numbers) / 15

    expected = Isometry(
        mean=mean,
        std=math.sqrt(sum((number - mean) ** 2 for number in numbers) / 15),
        min=min(numbers),
        max=max(numbers),
        condition=sum(float(row.max() / row.min()) for row in values) / 3,
        spread=sum((number - 1) ** 2 for number in numbers) / 15,
        images=3,
        values=5,
        rank=5,
        way="exact",
        image_means=tuple(float(row.mean()) for row in values),
    )

    plain, found = expected.to_json(), isometry.to_json()
    assert plain.pop("image_means") == pytest.approx(found.pop("image_means"))
    assert plain == pytest.approx(found)


def test_a_linear_network_of_orthogonal_layers_is_isometric() -> None:
    net = models.build("mlp7_linear", num_classes=10, seed=0)
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.orthogonal_(module.weight)

    isometry = isometry_of(jacobian_values(net, noise(2, 1, 32, 32)))

    assert (1.0, 1.0) == pytest.approx((isometry.mean, isometry.condition), rel=1e-5)
    assert pytest.approx(0.0, abs=1e-9) == isometry.spread


def test_chunks_of_images_and_other_seeds_change_nothing() -> None:
    net = masked_net()
    whole = jacobian_values(net, noise(5, 3, 7, 7), way="exact").values

    in_chunks = jacobian_values(net, noise(5, 3, 7, 7), way="exact", memory_bytes=70_000).values
    other = jacobian_values(net, noise(5, 3, 7, 7), way="lanczos", seed=9).values

    torch.testing.assert_close(in_chunks, whole, rtol=1e-12, atol=0)
    torch.testing.assert_close(other, whole, rtol=1e-9, atol=0)


def test_the_model_is_left_as_it_was() -> None:
    net = tiny_net(dropout=0.5).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}

    jacobian_values(net, IMAGES)

    assert net.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


class Does(nn.Module):
    """A linear layer, and then what it is told."""

    def __init__(self, then: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.fc, self.then = nn.Linear(4, 3), then

    def forward(self, x: torch.Tensor) -> object:
        return self.then(self.fc(x.flatten(1)))


SMALL = noise(2, 1, 2, 2)
REFUSED: dict[str, tuple[nn.Module, torch.Tensor, str]] = {
    "whole numbers": (Does(lambda y: y), SMALL.to(torch.uint8), "images of real numbers; got torch.uint8"),
    "no image": (Does(lambda y: y), SMALL[:0], "one image or more"),
    "detached": (Does(lambda y: y.detach()), SMALL, "does not depend on its image"),
    "classes": (Does(lambda y: y.argmax(1, keepdim=True)), SMALL, "does not depend on its image"),
    "constant": (Does(lambda y: torch.ones(1, 3)), SMALL, "does not depend on its image"),
    "two answers": (Does(lambda y: (y, y)), SMALL, "one tensor of logits to have a Jacobian; got tuple"),
    "a sum": (Does(lambda y: y.sum()), SMALL, "one row of logits per image; got shape ()"),
    "NaN answer": (Does(lambda y: y * torch.nan), SMALL, "logits of the network are NaN or infinite"),
    "NaN image": (Does(lambda y: y), SMALL.clone().index_fill_(0, torch.tensor([1]), torch.nan), "are NaN or infinite"),
    "infinite slope": (Does(lambda y: (y - y).sqrt()), SMALL, "Jacobian of the network is NaN or infinite"),
    "another size": (Does(lambda y: y), noise(2, 1, 3, 3), "cannot take an image of shape (1, 3, 3)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_where_there_is_no_jacobian_it_says_so(case: str) -> None:
    model, images, reason = REFUSED[case]

    with pytest.raises(ConfigError) as caught:
        jacobian_values(model, images)

    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_much_memory_names_the_flags() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(1200, 200))
    images = noise(2, 3, 20, 20)

    with pytest.raises(
        ConfigError, match=r"x 1200, needs .* --memory allows 2.87 MiB. Raise it, or take --way lanczos"
    ):
        jacobian_values(net, images, way="exact", memory_bytes=3_000_000)
    with pytest.raises(ConfigError, match=r"\(lanczos\); --memory allows 0.98 KiB. Raise it; fewer --images"):
        jacobian_values(net, images, way="auto", memory_bytes=1000)
    assert "lanczos" == jacobian_values(net, images, count=3, memory_bytes=3_000_000).way


@pytest.mark.parametrize(("options", "reason"), [({"way": "qr"}, "way must be one of"), ({"count": 6}, "from 1 to 5")])
def test_arguments_that_cannot_be_used(options: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        jacobian_values(masked_net(), IMAGES, **options)  # type: ignore[arg-type]
