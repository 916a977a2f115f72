"""report.html: one file, every number, any name, any missing part."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from ntksap_export.report import ReportInput
from ntksap_export.report.page import keep_units
from ntksap_export.report.plots import svg

from .page import HOSTILE, Page, check_self_contained, hostile, html_of, without_each_key
from .sample import cell, pair_of, profile2, sample

PARTS = ("config", "mask", "metrics", "parity", "profile", "sizes", "versions")
AXES = {
    "epoch", "kept / total weights", "share of all MACs", "ms per run", "µs per run", "times the baseline's p50",
    "bytes", "images/s", "size on disk", "images/s offered", "intensity, FLOP per byte",
}  # fmt: skip
SECTIONS = (
    "summary", "run", "training", "layers", "health", "latency", "memory", "sizes", "nodes", "parity", "skipped",
    "environment", "repeat",
)  # fmt: skip


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(html_of(sample()))


def test_the_page_fetches_nothing_and_runs_nothing(page: Page) -> None:
    check_self_contained(page)
    style = html_of(sample()).partition("<style>")[2].partition("</style>")[0]

    assert "url(" not in style and "@import" not in style


@pytest.mark.parametrize(
    "words",
    [
        "resnet50 at 90.4 % sparsity",
        "91.9 %",
        "27.7 ms",
        "28.1 ms",
        "noisy: IQR / median is 0.14",
        "11.2 MB",
        "94.1 MB",
        "33.6 %",
        "2.97x",
        "layer4.2.conv3",
        "149 in 2 layers; most: layer4.2.conv1 118",
        "compacting removes them",
        "210 MB",
        "3.1e-06",
        "top-1 agreement 100.0 %",
        "sparse onnxruntime, cuda, fp32, batch 1",
        "no CUDA device",
        "Intel Xeon Platinum 8481C",
        "2.13.0",
        "ntksap prune-train-export resnet50 --sparsity 0.9",
    ],
)
def test_the_numbers_of_the_run_are_on_the_page(page: Page, words: str) -> None:
    assert words in page.text


def test_sections_come_in_the_order_of_the_road(page: Page) -> None:
    sections = [attrs["id"] for tag, attrs in page.tags if tag == "section"]

    assert list(SECTIONS) == sections


def test_the_source_is_the_input(page: Page) -> None:
    source = json.loads(page.source)

    assert source["metrics"] == sample().metrics
    assert source["profile"]["cells"][0]["times_ms"] == sample().profile["cells"][0]["times_ms"]


def test_the_page_of_schema_2_has_every_section_and_stays_small() -> None:
    markup = html_of(sample(profile=profile2()))
    page = Page(markup)
    check_self_contained(page)
    sections = [attrs["id"] for tag, attrs in page.tags if tag == "section"]

    assert {*SECTIONS, "load"} == set(sections)
    assert len(markup) < 400_000
    for words in (
        "times the time of dense, 95 % interval 0.99 to 1.04",
        "p99 stays within 80.0 ms up to 17.5 images/s",
        "Measured peak 150 GFLOP/s and 20.0 GB/s",
        "activations take at most 9.63 MB",
        "openvino is not installed: pip install openvino",
        "ntksap profile out/demo --per-layer --batch 1,8",
        "150 on 2 threads",
        "enable_cpu_mem_arena yes",
    ):
        assert words in page.text


@pytest.mark.parametrize("profile", [sample().profile, profile2()], ids=["schema 1", "schema 2"])
def test_every_picture_has_a_title_and_names_with_units(profile: dict[str, Any]) -> None:
    page = Page(html_of(sample(profile=profile)))

    assert len(page.pictures) == sum(tag == "figure" for tag, _ in page.tags) >= 9
    for title, *words in page.pictures:
        assert len(title) > 10
        assert any(word in AXES for word in words), title


def test_many_raw_times_do_not_make_a_large_page() -> None:
    profile = profile2()
    profile["cells"] = [{**one, "times_ms": [10 + i % 17 / 7 for i in range(50_000)]} for one in profile["cells"]]

    assert len(html_of(sample(profile=profile))) < 400_000


def test_the_page_can_be_read_in_print_and_in_the_dark() -> None:
    style = html_of(sample()).partition("<style>")[2].partition("</style>")[0]

    assert "@media print" in style and "prefers-color-scheme: dark" in style and "break-inside: avoid" in style
    for theme in (style.partition("@media")[0], style.partition("prefers-color-scheme: dark")[2].partition("* {")[0]):
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]+)", theme))
        for name in ("ink", "quiet", "link", "bad", *(f"c{series}" for series in range(8))):
            assert contrast(colours[name], colours["paper"]) >= 4.5, name
        assert contrast(colours["quiet"], colours["panel"]) >= 4.5
        assert contrast(colours["ink"], colours["advice"]) >= 4.5


def contrast(one: str, other: str) -> float:
    """As WCAG 2 has it: of relative luminances, from 1 to 21."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_colours_of_the_pictures_are_those_of_the_style() -> None:
    style = html_of(sample()).partition("<style>")[2].partition("@media")[0]

    assert list(svg.COLOURS) == re.findall(r"--c\d: (#[0-9a-f]+)", style)


def test_a_large_source_leaves_the_raw_times_out_and_the_input_alone() -> None:
    data = sample(profile={"cells": [cell("sparse", 10.0, times_ms=[10.123456789] * 20_000)]})
    source = json.loads(Page(html_of(data)).source)

    assert "times_ms" not in source["profile"]["cells"][0]
    assert source["profile"]["cells"][0]["latency_ms"]["p50"] == 10.0
    assert len(data.profile["cells"][0]["times_ms"]) == 20_000


def test_a_number_that_is_not_finite_has_no_place_in_json() -> None:
    metrics = copy.deepcopy(sample().metrics)
    metrics["history"][1]["val_loss"] = float("nan")
    source = json.loads(Page(html_of(sample(metrics=metrics))).source, parse_constant=pytest.fail)

    assert source["metrics"]["history"][1]["val_loss"] is None


def test_hostile_names_are_text_everywhere() -> None:
    whole = sample()
    parts = {name: hostile(getattr(whole, name)) for name in PARTS}
    parts["sizes"] = {name + HOSTILE: value for name, value in whole.sizes.items()}
    page = Page(html_of(ReportInput(**parts, command=HOSTILE)))

    check_self_contained(page)
    assert "b" not in {tag for tag, _ in page.tags}
    assert HOSTILE in page.text
    assert json.loads(page.source)["command"] == HOSTILE


@pytest.mark.parametrize("part", PARTS)
def test_one_missing_part_leaves_the_others(part: str) -> None:
    page = Page(html_of(sample(**{part: {}})))

    assert len([tag for tag, _ in page.tags if tag == "section"]) == len(SECTIONS)
    assert page.open == []


def test_nothing_at_all_says_what_was_not_run() -> None:
    page = Page(html_of(ReportInput({}, {}, {}, {}, {}, {}, "")))

    assert page.text.count("Not run:") == 7
    assert "n/a" not in page.text and "None" not in page.text


def _small_profile() -> dict[str, Any]:
    """Of schema 2, with one of each: few times, few nodes, and the cell with most keys in front."""
    profile = profile2()
    cells = [{**one, "times_ms": one["times_ms"][:5], "slice_of": []} for one in profile["cells"]]
    layers = [{**entry, "nodes": entry["nodes"][:2]} for entry in profile["layers"]]
    return {**profile, "cells": [cells[1], cells[0], cells[-1]], "layers": layers}


@pytest.mark.parametrize("part", ["config", "mask", "metrics", "parity", "profile", "profile of schema 1"])
def test_any_key_may_be_missing(part: str) -> None:
    old = part.endswith("1")
    small = sample(profile={**sample().profile, **pair_of(2.0, 1.0)} if old else _small_profile())
    part = part.split()[0]
    small.mask["table"]["rows"] = small.mask["table"]["rows"][:2]
    for changed in without_each_key(getattr(small, part)):
        parts = {name: getattr(small, name) for name in PARTS}

        assert "</html>" in html_of(ReportInput(**{**parts, part: changed}, command="ntksap"))


def test_failed_parity_is_loud() -> None:
    parity = copy.deepcopy(sample().parity)
    parity["passed"] = parity["checks"][0]["passed"] = False
    text = Page(html_of(sample(parity=parity))).text

    assert "does not agree with the model" in text
    assert text.count("FAILED") == 1


def test_units_stay_with_their_numbers() -> None:
    assert keep_units("in 1 s, 5 % and 2 MB") == "in 1\xa0s, 5\xa0% and 2\xa0MB"
    assert keep_units("5 epochs of 2 images") == "5 epochs of 2 images"
