from __future__ import annotations

import math

import pytest
import torch

from ntksap_export.masks import NofM, Structure, find_structure


def n_of_m(n: int, m: int, *shape: int, seed: int = 0) -> torch.Tensor:
    """Exactly n of every m along the last axis."""
    scores = torch.rand(*shape[:-1], shape[-1] // m, m, generator=torch.Generator().manual_seed(seed))
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, scores.topk(n).indices, True).reshape(shape)


def random(density: float, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3)) < density


def found(kept: torch.Tensor) -> tuple[str, str | None]:
    structure = find_structure(kept)
    assert structure is not None
    return structure.pattern, structure.along


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (1, 2), (4, 8), (3, 5), (8, 16)])
def test_n_of_m_along_the_input_channels_of_a_convolution(n: int, m: int) -> None:
    assert (f"{n}:{m}", "input channels") == found(n_of_m(n, m, 16, 3, 3, 80).movedim(-1, 1))


def test_n_of_m_along_the_rows_of_the_matrix_that_a_convolution_is() -> None:
    assert ("2:4", "rows") == found(n_of_m(2, 4, 16, 72).reshape(16, 8, 3, 3))


def test_a_mask_of_the_pattern_that_prunes_is_recognised() -> None:
    pattern, scores = NofM(2, 4), random(0.5, 32, 16, 3, 3).double() + random(0.3, 32, 16, 3, 3)

    kept = pattern.allowed(scores, torch.ones(32, 16, 3, 3, dtype=torch.bool), 0.5)

    assert ("2:4", "input channels") == found(kept)


def test_a_small_layer_that_keeps_exactly_2_of_every_4_is_told() -> None:
    assert ("2:4", "input channels") == found(n_of_m(2, 4, 4, 8))


def test_groups_that_are_not_full_are_still_of_the_pattern() -> None:
    kept = n_of_m(2, 4, 64, 64) & random(0.8, 64, 64)

    assert ("2:4", "input channels") == found(kept)


@pytest.mark.parametrize("density", [0.5, 0.1, 0.02, 0.001])
@pytest.mark.parametrize("shape", [(64, 64), (32, 16, 3, 3), (16, 16)])
def test_what_chance_makes_is_unstructured(density: float, shape: tuple[int, ...]) -> None:
    kept = random(density, *shape)
    kept.view(-1)[:35:17] = True  # else few of what is small is a whole channel

    assert ("unstructured", None) == found(kept)


def test_chance_is_reckoned_as_the_formula_has_it() -> None:
    """Of G groups of 4, all but one keep 2, that one 1; at most 2 of 4 is found where q**G < 1e-6."""
    for groups in range(2, 80, 2):
        kept = torch.tensor([True, True, False, False]).repeat(groups)
        kept[0] = False
        density = (2 * groups - 1) / (4 * groups)
        q = sum(math.comb(4, i) * density**i * (1 - density) ** (4 - i) for i in range(3))

        # rows of one group each: no m but 2 and 4 divides them, and some pair keeps both
        assert ("2:4" if q**groups < 1e-6 else "unstructured") == found(kept.reshape(groups, 4))[0]


def test_empty_channels_are_counted() -> None:
    kept = random(0.5, 6, 9, 3, 3)
    kept[[1, 4]] = False
    kept[:, 7] = False

    assert Structure("unstructured", None, 6, 2, 9, 1) == find_structure(kept)


@pytest.mark.parametrize(("kept", "pattern"), [(torch.ones, "full"), (torch.zeros, "empty")])
def test_all_and_nothing(kept: object, pattern: str) -> None:
    assert callable(kept)
    empty = 4 if pattern == "empty" else 0

    assert Structure(pattern, None, 4, empty, 4, empty) == find_structure(kept(4, 4, dtype=torch.bool))


def test_whole_channels_alone() -> None:
    kept = torch.ones(6, 9, 3, 3, dtype=torch.bool)
    kept[[1, 4]] = False
    kept[:, 7] = False

    assert Structure("channel", None, 6, 2, 9, 1) == find_structure(kept)


def test_n_of_m_of_the_output_channels_that_are_left() -> None:
    kept = n_of_m(2, 4, 16, 16)
    kept[:10] = False

    structure = find_structure(kept)

    assert structure is not None
    assert ("2:4", 10) == (structure.pattern, structure.empty_outputs)


@pytest.mark.parametrize("shape", [(), (5,), (0, 4), (4, 0, 3)])
def test_no_pattern_of_a_vector_or_of_nothing(shape: tuple[int, ...]) -> None:
    assert find_structure(torch.ones(shape, dtype=torch.bool)) is None
