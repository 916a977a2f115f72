"""Numbers and sentences: what a reader is told must follow from the numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntksap_export.report import ReportInput, text, verdict
from ntksap_export.report.verdict import span_words, theory_words, training_words

from .sample import cell, cell2, pair_of, profile2, sample

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
        (0.9, "faster"),
        (0.96, "no faster"),
        (1.0, "no faster"),
        (1.04, "no faster"),
        (1.2, "slower"),
    ],
)
def test_the_claim_follows_the_ratio(ratio: float, claim: str) -> None:
    bought = verdict(sample(profile=pair_of(20.0, 20.0 * ratio)))[2]

    assert f"In onnxruntime it is {claim} than dense: " in bought
    assert f"against 20.0 ms, {ratio:.2f} times the time of dense (cpu, fp32, batch 1, 2 threads)." in bought


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        ((0.9, 0.88, 0.92), "faster than dense"),
        ((0.9, 0.79, 1.01), "no faster than dense"),
        ((0.97, 0.96, 0.98), "no faster than dense"),
        ((1.2, 0.99, 1.4), "no faster than dense"),
        ((1.2, 1.1, 1.3), "slower than dense"),
    ],
)
def test_an_interval_that_holds_1_allows_no_claim(ratio: tuple[float, float, float], said: str) -> None:
    cells = [cell2("dense", 20.0), cell2("sparse", 20.0 * ratio[0], ratio)]
    bought = verdict(sample(profile={"cells": cells}))[2]

    assert f"In onnxruntime it is {said}: " in bought
    assert f"95 % interval {ratio[1]:.2f} to {ratio[2]:.2f} (cpu" in bought


def test_the_numbers_of_the_lines_are_those_of_the_data() -> None:
    data = sample(profile=profile2())
    _, costs, gains = verdict(data)
    final, images = data.metrics["final"]["val_accuracy"], data.config["data"]["val_images"]
    low, high = text.wilson(final, images)
    dense, sparse, int8 = data.profile["cells"][:3]

    assert f"{100 * final:.1f} % (95 % interval {100 * low:.1f} % to {100 * high:.1f} % on {images} val" in costs
    assert f"{sparse['latency_ms']['p50']} ms against {dense['latency_ms']['p50']} ms" in gains
    assert f"{sparse['ratio']['value']:.2f} times the time of dense" in gains
    assert f"In int8 it is faster: {int8['latency_ms']['p50']} ms, {int8['ratio']['value']:.2f} times" in gains
    assert f"{data.sizes['model.safetensors'] / 1e6:.1f} MB against" in gains
    assert f"({sparse['memory']['run_peak_rss_bytes'] / 1e6:.0f} MB against" in gains


def test_int8_beside_a_dense_network_in_int8_says_that_it_is_compared_with_that() -> None:
    int8 = {"precision": "int8"}
    cells = [cell2("dense", 20.0), cell2("dense", 9.0, **int8), cell2("sparse", 18.0, (0.9, 0.89, 0.91))]
    cells.append(cell2("sparse", 9.9, (1.1, 1.09, 1.11), **int8))
    gains = verdict(sample(profile={"cells": cells}))[2]

    assert "In int8 it is slower than dense in int8: 9.90 ms against 9.00 ms, 1.10 times the time of dense" in gains


def test_a_network_of_which_nothing_was_pruned_is_called_dense() -> None:
    mask = {"method": "magnitude", "rounds": 1, "table": {"density": 1.0}}

    assert verdict(sample(mask=mask))[0].startswith("resnet50 was not pruned: it is the dense network. It was trained")


@pytest.mark.parametrize(("share", "words"), [(1.0, "about the same"), (0.5, "lower"), (1.5, "higher")])
def test_memory_is_compared(share: float, words: str) -> None:
    profile = pair_of(20.0, 20.0)
    profile["cells"][1]["memory"]["run_peak_rss_bytes"] = share * profile["cells"][0]["memory"]["run_peak_rss_bytes"]

    assert f"Peak RSS is {words} (" in verdict(sample(profile=profile))[2]


def test_what_int8_costs_is_told() -> None:
    precisions = {"int8": {"accuracy": {"before": 0.919, "after": 0.902}, "passed": True}}
    costs = verdict(sample(parity={**sample().parity, "precisions": precisions}))[1]

    assert " In int8 it is 90.2 %, where model.onnx has 91.9 %." in costs


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
    data = sample(profile={"cells": cells})

    assert "20.0 ms against 20.0 ms" in verdict(data)[2]
    assert "Over all 3 pairs of one precision, sparse took 0.50 to 1.30 times as long as dense." == span_words(data)


def test_cells_that_differ_in_threads_are_not_compared() -> None:
    cells = [cell("dense", 20.0, threads=1), cell("sparse", 10.0, threads=2)]

    assert "nothing is said of speed" in verdict(sample(profile={"cells": cells}))[2]


@pytest.mark.parametrize(
    ("sparse", "claim"),
    [(27.0, "no runtime measured here reaches it"), (5.0, "the best pair measured here reaches it (5.40x)")],
)
def test_theory_is_held_against_the_best_pair(sparse: float, claim: str) -> None:
    assert claim in theory_words(sample(profile=pair_of(27.0, sparse)))


def test_a_checkpoint_that_is_not_smaller_is_not_praised() -> None:
    sizes = {"model.safetensors": 103_000_000, "dense.safetensors (computed)": 94_000_000}
    bought = verdict(sample(sizes=sizes))[2]

    assert "not smaller than a dense one (103 MB against 94.0 MB)" in bought


def test_the_sample_is_summed_up() -> None:
    ran, accuracy, bought = verdict(sample())

    assert ran.startswith("resnet50 was pruned before training to 90.4 % sparsity with ntksap in 20 rounds")
    assert "5 epochs on digits (1,437 training images)" in ran
    assert "The best epoch was 4, with 92.5 %" in training_words(sample())
    assert "60.1 s on cpu in bf16" in training_words(sample())
    assert "Top-1 accuracy is 91.9 %" in accuracy
    assert "guessing gives 10.0 %" in accuracy and "No dense network was trained" in accuracy
    assert "The checkpoint is 8.4 times smaller (11.2 MB against 94.1 MB)" in bought


def test_nothing_is_claimed_of_a_run_without_parts() -> None:
    ran, accuracy, bought = verdict(EMPTY)

    assert ran == "No pruning of a network is recorded. No training is recorded."
    assert accuracy == "Accuracy was not measured."
    assert "Latency was not measured" in bought
