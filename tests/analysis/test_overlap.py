"""Overlap of masks beside plain counting, and ERK's densities beside its rule."""

from __future__ import annotations

import pytest
import torch

from ntksap_export.analysis.overlap import overlap
from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask
from ntksap_export.pruning.scorers.erk import erk_densities

from ..support.nets import random_mask, tiny_net


def test_it_is_what_counting_finds() -> None:
    net = tiny_net()
    a, b = random_mask(net, 0.3, seed=1), random_mask(net, 0.6, seed=2)

    found = overlap(a, b)

    both, either = 0, 0
    for layer in found.layers:
        first, second = a[layer.name].flatten().tolist(), b[layer.name].flatten().tolist()
        shared = sum(x and y for x, y in zip(first, second, strict=True))
        any_of = sum(x or y for x, y in zip(first, second, strict=True))
        p, q = sum(first) / len(first), sum(second) / len(second)
        assert shared / any_of == pytest.approx(layer.jaccard)
        assert p * q / (p + q - p * q) == pytest.approx(layer.by_chance)
        both, either = both + shared, either + any_of
    assert list(a) == [layer.name for layer in found.layers]
    assert both / either == pytest.approx(found.jaccard)
    assert found.jaccard == overlap(b, a).jaccard


def test_chance_is_what_independent_masks_have() -> None:
    net = tiny_net()
    shapes = {name: kept.shape for name, kept in Mask.dense(net).items()}
    densities = {name: (0.2 + 0.2 * index, 0.7 - 0.2 * index) for index, name in enumerate(shapes)}
    generator = torch.Generator().manual_seed(0)

    def drawn(which: int) -> Mask:
        tensors = {}
        for name, shape in shapes.items():
            order = torch.randperm(shape.numel(), generator=generator)
            tensors[name] = (order < round(densities[name][which] * shape.numel())).view(shape)
        return Mask(tensors)

    found = [overlap(drawn(0), drawn(1)) for _ in range(200)]

    assert sum(each.jaccard for each in found) / 200 == pytest.approx(found[0].by_chance, rel=0.01)


def test_the_same_disjoint_and_empty_masks() -> None:
    a = Mask({"w": torch.tensor([[True, False]])})
    b = Mask({"w": torch.tensor([[False, True]])})
    empty = Mask({"w": torch.zeros(1, 2, dtype=torch.bool)})

    assert (1.0, 0.0, 1.0) == (overlap(a, a).jaccard, overlap(a, b).jaccard, overlap(empty, empty).jaccard)
    assert {
        "jaccard": 0.0,
        "by_chance": 0.25 / 0.75,
        "layers": [{"name": "w", "jaccard": 0.0, "by_chance": 0.25 / 0.75}],
    } == overlap(a, b).to_json()


@pytest.mark.parametrize(("name", "columns"), [("w", 3), ("v", 2)])
def test_masks_of_two_networks(name: str, columns: int) -> None:
    other = Mask({name: torch.ones(1, columns, dtype=torch.bool)})

    with pytest.raises(ConfigError, match="only masks of one network can be compared"):
        overlap(Mask({"w": torch.ones(1, 2, dtype=torch.bool)}), other)


@pytest.mark.parametrize("density", [0.0, 0.05, 0.4, 0.9, 1.0])
def test_erk_densities(density: float) -> None:
    shapes = {
        "conv1.weight": torch.Size((16, 3, 3, 3)),
        "conv2.weight": torch.Size((64, 64, 3, 3)),
        "fc.weight": torch.Size((10, 64)),
    }
    share = {"conv1.weight": 25 / 432, "conv2.weight": 134 / 36864, "fc.weight": 74 / 640}

    found = erk_densities(shapes, density)

    total = sum(shape.numel() for shape in shapes.values())
    assert density * total == pytest.approx(sum(found[name] * shape.numel() for name, shape in shapes.items()))
    factors = [found[name] / share[name] for name in shapes if found[name] < 1]
    assert max(factors, default=0) == pytest.approx(min(factors, default=0))  # one factor for all that are not whole
    assert all(share[name] * max(factors, default=1e9) >= 1 for name in shapes if found[name] == 1)
    assert max(found.values()) <= 1
