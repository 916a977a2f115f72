"""Mixup and CutMix against slow writings of their papers' formulas, and the loss and count of mixed labels."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
import torch

from ntksap_export.data.augment import generator
from ntksap_export.training import MixedLabels, loss_of, mix, right_of
from ntksap_export.training.mixing import _beta, _box

from .cases import config


def batch(count: int = 6, height: int = 8, width: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that tell where every pixel came from, and as many labels."""
    return torch.arange(count * 3 * height * width).reshape(count, 3, height, width).float(), torch.arange(count)


def mixed(key: str = "0/1/2", **alphas: float) -> tuple[torch.Tensor, MixedLabels]:
    images, targets = mix(*batch(), config(**alphas), key)
    assert isinstance(targets, MixedLabels)
    return images, targets


def test_without_alphas_the_batch_comes_back_itself() -> None:
    images, labels = batch()

    same_images, same_labels = mix(images, labels, config(), "0/1/2")

    assert same_images is images
    assert same_labels is labels


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup_is_the_papers_sum(alpha: float) -> None:
    images, targets = mixed(mixup=alpha)

    source = batch()[0].double()
    expected = [
        targets.share * source[i] + (1 - targets.share) * source[int(targets.second[i])] for i in range(len(source))
    ]
    assert torch.equal(batch()[1], targets.first)
    assert sorted(targets.second.tolist()) == targets.first.tolist()
    torch.testing.assert_close(images.double(), torch.stack(expected), rtol=1e-6, atol=0)


@pytest.mark.parametrize("key", [f"0/1/{step}" for step in range(20)])
def test_cutmix_puts_one_box_and_its_share_is_the_area_outside(key: str) -> None:
    images, targets = mixed(key, cutmix=1.0)

    source = batch()[0]
    outside = 0
    for i in range(len(source)):
        for row in range(8):
            for column in range(10):
                pixel = images[i, :, row, column]
                own = torch.equal(pixel, source[i, :, row, column])
                assert own or torch.equal(pixel, source[int(targets.second[i]), :, row, column])
                outside += own and int(targets.second[i]) != i
    moved = int((targets.second != targets.first).sum())
    assert outside / (moved * 80) == pytest.approx(targets.share, abs=1e-12)


def test_the_box_has_the_sides_of_the_share_around_its_center() -> None:
    """Yun et al.: center even over the image, sides times sqrt(1 - share), cut off at the borders."""
    for number in range(200):
        random = generator(f"box {number}")
        row, column = (int(torch.randint(side, (), generator=random)) for side in (32, 20))
        half_rows, half_columns = int(32 * 0.75**0.5) // 2, int(20 * 0.75**0.5) // 2

        expected = (
            max(0, row - half_rows),
            min(32, row + half_rows),
            max(0, column - half_columns),
            min(20, column + half_columns),
        )
        assert expected == _box(32, 20, 0.25, generator(f"box {number}"))


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_shares_have_the_mean_and_variance_of_the_beta_distribution(alpha: float) -> None:
    draws = [_beta(alpha, generator(f"draw {number}")) for number in range(4000)]

    assert 0.5 == pytest.approx(statistics.mean(draws), abs=0.03)
    assert 1 / (4 * (2 * alpha + 1)) == pytest.approx(statistics.pvariance(draws), rel=0.1)


def test_a_vanishing_alpha_takes_either_image_whole() -> None:
    draws = [_beta(1e-9, generator(f"draw {number}")) for number in range(200)]

    assert {0.0, 1.0} == {round(share, 6) for share in draws}


def test_where_both_are_on_they_take_turns_about_evenly() -> None:
    cut = 0
    for step in range(200):
        images, targets = mixed(f"0/1/{step}", mixup=1.0, cutmix=1.0)
        apart = [i for i in range(6) if int(targets.second[i]) != i]
        cut += bool((images[apart[0]] == batch()[0][apart[0]]).any())  # mixup changes every pixel

    assert 70 < cut < 130


@pytest.mark.parametrize("alphas", [{"mixup": 0.5}, {"cutmix": 1.0}, {"mixup": 0.5, "cutmix": 1.0}], ids=str)
def test_draws_follow_from_the_key_alone(alphas: dict[str, Any]) -> None:
    first, targets = mixed("7/3/11", **alphas)
    before = torch.get_rng_state()
    again, same = mixed("7/3/11", **alphas)
    other, others = mixed("7/3/12", **alphas)

    assert torch.equal(first, again)
    assert (targets.share, targets.second.tolist()) == (same.share, same.second.tolist())
    assert (targets.share, targets.second.tolist()) != (others.share, others.second.tolist())
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("alphas", [{"mixup": 0.5}, {"cutmix": 1.0}], ids=str)
def test_the_images_given_stay_and_their_layout_is_kept(alphas: dict[str, Any]) -> None:
    images, labels = batch()
    images = images.contiguous(memory_format=torch.channels_last)

    result, _ = mix(images, labels, config(**alphas), "0/1/2")

    assert torch.equal(batch()[0], images)
    assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_mixed_labels_is_cross_entropy_with_two_hot_targets(smoothing: float, reduction: str) -> None:
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    targets = MixedLabels(torch.tensor([0, 1, 2, 3, 0]), torch.tensor([3, 1, 0, 2, 1]), 0.3)

    losses = []
    for row, first, second in zip(logits.double(), targets.first, targets.second, strict=True):
        wanted = torch.zeros(4, dtype=torch.float64)
        wanted[first] += 0.3
        wanted[second] += 0.7
        wanted = (1 - smoothing) * wanted + smoothing / 4
        losses.append(-(wanted * (row - row.exp().sum().log())).sum())
    slow = torch.stack(losses)
    expected = {"mean": slow.mean(), "sum": slow.sum(), "none": slow}[reduction]
    torch.testing.assert_close(loss_of(logits, targets, smoothing, reduction).double(), expected, rtol=1e-6, atol=1e-6)


def test_plain_labels_have_the_plain_loss() -> None:
    logits, labels = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0])

    expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    assert torch.equal(expected, loss_of(logits, labels, 0.1))


def test_right_answers_count_the_share_of_their_label() -> None:
    logits = torch.eye(4)  # the answers are 0, 1, 2, 3
    targets = MixedLabels(torch.tensor([0, 2, 1, 3]), torch.tensor([1, 1, 0, 3]), 0.75)

    assert 2 == int(right_of(logits, torch.tensor([0, 2, 1, 3])))
    assert 0.75 + 0.25 + 0.0 + 1.0 == float(right_of(logits, targets))
