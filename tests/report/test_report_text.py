"""Numbers and sentences: what a reader is told must follow from the numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntksap_export.report import ReportInput, text, verdict

from .sample import cell, pair_of, sample

EMPTY = ReportInput(config={}, mask={}, metrics={}, parity={}, profile={}, sizes={}, command="", versions={})


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (text.number(0.8124), "0.812"),
        (text.number(28.14), "28.1"),
        (text.number(99.96), "100"),
        (text.number(1234.4), "1,234"),
        (text.number(math.nan), "n/a"),
        (text.milliseconds(27.7), "27.7 ms"),
        (text.seconds(60.1), "60.1 s"),
        (text.seconds(600), "10.0 min"),
        (text.size(0), "0 B"),
        (text.size(512), "512 B"),
        (text.size(11_215_904), "11.2 MB"),
        (text.size(-2_000_000), "-2.00 MB"),
        (text.percent(0.9), "90.0 %"),
        (text.percent(1.0), "100.0 %"),
        (text.percent(0.00012), "0.012 %"),
        (text.percent(0.999963), "99.9963 %"),
        (text.count(23_508_032), "23,508,032"),
        (text.short_count(23_508_032), "23.5 M"),
        (text.short_count(9_999), "9,999"),
        (text.times(2.41), "2.41x"),
        (text.plural(1, "layer"), "1 layer"),
    ],
)
def test_numbers_read_as_people_write_them(made: str, expected: str) -> None:
    assert expected == made


@given(st.floats(1e-5, 1 - 1e-5))
def test_a_share_that_is_not_whole_is_never_shown_as_whole(share: float) -> None:
    shown = float(text.percent(share).removesuffix(" %"))

    assert 0 < shown < 100


@given(st.floats(0, 1), st.integers(1, 100_000))
def test_the_interval_holds_the_share_and_stays_in_range(share: float, n: int) -> None:
    low, high = text.wilson(share, n)

    assert 0 <= low <= share + 1e-12 and share - 1e-12 <= high <= 1


def test_the_interval_is_wilsons() -> None:
    assert pytest.approx((0.4038, 0.5962), abs=1e-4) == text.wilson(0.5, 100)


@pytest.mark.parametrize(
    ("ratio", "claim"),
    [
        (0.9, "mask makes onnxruntime faster:"),
        (0.96, "mask does not make onnxruntime faster:"),
        (1.0, "mask does not make onnxruntime faster:"),
        (1.04, "mask does not make onnxruntime faster:"),
        (1.2, "mask makes onnxruntime slower:"),
    ],
)
def test_the_claim_follows_the_ratio(ratio: float, claim: str) -> None:
    bought = verdict(sample(profile=pair_of(20.0, 20.0 * ratio)))[2]

    assert claim in bought
    assert f"against dense 20.0 ms ({ratio:.2f} times the time) at batch 1, 2 threads." in bought


def test_a_noisy_pair_says_so() -> None:
    steady, noisy = pair_of(20.0, 24.0), pair_of(20.0, 24.0, noise="noisy: IQR / median is 0.2")

    assert "noisy" not in verdict(sample(profile=steady))[2]
    assert "is noisy, so the ratio is rough" in verdict(sample(profile=noisy))[2]


def test_the_headline_is_onnxruntime_at_the_smallest_batch_and_the_range_covers_all() -> None:
    cells = [
        cell("dense", 10.0, backend="torch"),
        cell("sparse", 5.0, backend="torch"),
        *pair_of(100.0, 130.0, batch=8)["cells"],
        *pair_of(20.0, 20.0)["cells"],
    ]
    bought = verdict(sample(profile={"cells": cells}))[2]

    assert "sparse 20.0 ms against dense 20.0 ms" in bought
    assert "Over all 3 pairs measured, sparse took 0.50 to 1.30 times as long as dense." in bought
    assert "What it buys here" not in bought


def test_cells_that_differ_in_threads_are_not_compared() -> None:
    cells = [cell("dense", 20.0, threads=1), cell("sparse", 10.0, threads=2)]

    assert "nothing is said of speed" in verdict(sample(profile={"cells": cells}))[2]


@pytest.mark.parametrize(
    ("sparse", "claim"),
    [(27.0, "no runtime measured here reaches it"), (5.0, "the best pair measured here reaches it (5.40x)")],
)
def test_theory_is_held_against_the_best_pair(sparse: float, claim: str) -> None:
    assert claim in verdict(sample(profile=pair_of(27.0, sparse)))[2]


def test_a_checkpoint_that_is_not_smaller_is_not_praised() -> None:
    sizes = {"model.safetensors": 103_000_000, "dense.safetensors (computed)": 94_000_000}
    bought = verdict(sample(sizes=sizes))[2]

    assert "not smaller than a dense one (103 MB against 94.0 MB)" in bought
    assert "What it buys here" not in bought


def test_the_sample_is_summed_up() -> None:
    ran, accuracy, bought = verdict(sample())

    assert ran.startswith("resnet50 was pruned before training to 90.4 % sparsity with ntksap in 20 rounds")
    assert "5 epochs on digits (1,437 training images)" in ran and "60.1 s on cpu in bf16" in ran
    assert "Top-1 accuracy is 91.9 %" in accuracy and "best was 92.5 % in epoch 4" in accuracy
    assert "guessing gives 10.0 %" in accuracy and "No dense network was trained" in accuracy
    assert "the checkpoint is 8.4 times smaller (11.2 MB against 94.1 MB)" in bought


def test_nothing_is_claimed_of_a_run_without_parts() -> None:
    ran, accuracy, bought = verdict(EMPTY)

    assert ran == "No pruning of a network is recorded. No training is recorded."
    assert accuracy == "Accuracy was not measured."
    assert "Latency was not measured" in bought
