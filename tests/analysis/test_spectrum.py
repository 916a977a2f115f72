"""Spectra of kernels whose eigenvalues are known, and how near two kernels are, against the formulas."""

from __future__ import annotations

import json
import math

import pytest
import torch

from ntksap_export.analysis import Spectrum, alignment, spectrum_distance, spectrum_of
from ntksap_export.errors import ConfigError


def rotated(values: list[float], seed: int = 0) -> torch.Tensor:
    """A kernel with these eigenvalues."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64, generator=generator)).Q
    return q @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ q.T


def random_kernel(seed: int, n: int = 6) -> torch.Tensor:
    j = torch.randn(n, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return j @ j.T


def test_a_spectrum_is_what_the_kernel_was_made_of() -> None:
    found = spectrum_of(rotated([1.0, 8.0, 2.0, 5.0]))

    shares = [0.5, 0.3125, 0.125, 0.0625]
    assert pytest.approx((8, 5, 2, 1)) == found.eigenvalues
    assert pytest.approx(16) == found.trace
    assert pytest.approx(8) == found.condition
    assert pytest.approx(0.5) == found.top_share
    assert pytest.approx(math.exp(-sum(p * math.log(p) for p in shares))) == found.effective_rank


def test_equal_eigenvalues_have_full_rank() -> None:
    found = spectrum_of(3 * torch.eye(7))

    assert (7.0, 1.0) == (pytest.approx(found.effective_rank), found.condition)


def test_a_singular_kernel_has_no_condition() -> None:
    found = spectrum_of(rotated([4.0, 0.0, 0.0, 1e-3]))

    assert (0.0, 0.0) == found.eigenvalues[2:]
    assert math.inf == found.condition
    assert None is json.loads(json.dumps(found.to_json(), allow_nan=False))["condition"]


def test_a_kernel_of_zeros_has_rank_zero() -> None:
    found = spectrum_of(torch.zeros(3, 3))

    assert Spectrum((0.0, 0.0, 0.0), 0.0, math.inf, 0.0, 0.0) == found


def test_blocks_are_one_block_diagonal_matrix() -> None:
    blocks = torch.stack([random_kernel(0), random_kernel(1)])

    found, expected = spectrum_of(blocks), spectrum_of(torch.block_diag(*blocks))

    assert pytest.approx(expected.eigenvalues) == found.eigenvalues
    assert pytest.approx(expected.effective_rank) == found.effective_rank


@pytest.mark.parametrize("kernel", [torch.zeros(3, 4), torch.zeros(0, 0), torch.full((2, 2), math.nan), torch.zeros(3)])
def test_what_is_no_kernel_is_refused(kernel: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match="kernel"):
        spectrum_of(kernel)


def test_alignment_is_the_cosine_of_the_centered_kernels() -> None:
    a, b = random_kernel(0), random_kernel(1)
    h = torch.eye(6, dtype=torch.float64) - 1 / 6
    x, y = h @ a @ h, h @ b @ h

    expected = float((x * y).sum() / (x.norm() * y.norm()))
    assert pytest.approx(expected, rel=1e-12) == alignment(a, b)
    assert pytest.approx(expected, rel=1e-12) == alignment(b, 7 * a)
    assert pytest.approx(1.0) == alignment(a, a + 3)


def test_alignment_of_blocks_is_the_mean() -> None:
    a, b, c = (random_kernel(seed) for seed in range(3))

    expected = (alignment(a, b) + alignment(b, c)) / 2
    assert pytest.approx(expected) == alignment(torch.stack([a, b]), torch.stack([b, c]))


def test_a_constant_kernel_aligns_with_nothing() -> None:
    assert 0.0 == alignment(torch.full((5, 5), 0.1), random_kernel(0, 5))


def test_kernels_of_other_shapes_are_refused() -> None:
    with pytest.raises(ConfigError, match="of one shape"):
        alignment(random_kernel(0), random_kernel(0, 5))


def test_distance_is_in_orders_of_magnitude_and_plain() -> None:
    a, b = spectrum_of(rotated([10.0, 4.0, 1.0])), spectrum_of(rotated([100.0, 4.0, 0.1]))

    found = spectrum_distance(a, b)

    assert pytest.approx(math.sqrt(2 / 3)) == found.log10
    assert pytest.approx(math.hypot(90, 0.9) / math.sqrt(100**2 + 4**2 + 0.1**2)) == found.relative


def test_a_zero_is_as_far_as_rounding_tells() -> None:
    a, b = spectrum_of(torch.diag(torch.tensor([2.0, 0.0]))), spectrum_of(torch.diag(torch.tensor([2.0, 2.0])))
    floor = 2 * 2.0**-52 * 2.0

    assert pytest.approx(math.log10(2 / floor) / math.sqrt(2)) == spectrum_distance(a, b).log10
    assert pytest.approx(1 / math.sqrt(2)) == spectrum_distance(a, b).relative


def test_distances_from_nothing() -> None:
    nothing, some = spectrum_of(torch.zeros(2, 2)), spectrum_of(torch.eye(2))

    assert (0.0, 0.0) == (spectrum_distance(nothing, nothing).log10, spectrum_distance(nothing, nothing).relative)
    assert None is spectrum_distance(some, nothing).to_json()["relative"]
    with pytest.raises(ConfigError, match="of one length"):
        spectrum_distance(some, spectrum_of(torch.eye(3)))
