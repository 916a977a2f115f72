"""report.html: one file, every number, any name, any missing part."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from ntksap_export.report import ReportInput, html, render_html

from .sample import cell, pair_of, sample

PARTS = ("config", "mask", "metrics", "parity", "profile", "sizes", "versions")
VOID = {"meta", "br", "hr", "img", "input", "link"}
HOSTILE = '</script><script>alert(1)</script><b onclick="x">\'&'


class Page(HTMLParser):
    """Tags with attributes, the text outside scripts and styles, and the embedded source."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.source = "", ""
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, words: str) -> None:
        if self.open[-1:] == ["script"]:
            self.source += words
        elif self.open[-1:] != ["style"]:
            self.text += words.replace("\N{NO-BREAK SPACE}", " ")


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render_html(sample()))


def _check_self_contained(page: Page) -> None:
    scripts = [attrs for tag, attrs in page.tags if tag == "script"]

    assert [attrs["type"] for attrs in scripts] == ["application/json"]
    assert {"link", "img", "iframe", "object", "embed", "base", "form"}.isdisjoint(tag for tag, _ in page.tags)
    for _, attrs in page.tags:
        assert {"src", "href", "srcset", "data", "action"}.isdisjoint(attrs)
        assert not any(name.startswith("on") for name in attrs)


def test_the_page_fetches_nothing_and_runs_nothing(page: Page) -> None:
    _check_self_contained(page)
    style = render_html(sample()).partition("<style>")[2].partition("</style>")[0]

    assert "url(" not in style and "@import" not in style
    assert page.open == []


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

    assert sections == [
        *("summary", "run", "training", "layers", "health", "latency", "memory", "sizes", "parity"),
        *("skipped", "environment", "repeat"),
    ]


def test_the_source_is_the_input(page: Page) -> None:
    source = json.loads(page.source)

    assert source["metrics"] == sample().metrics
    assert source["profile"]["cells"][0]["times_ms"] == sample().profile["cells"][0]["times_ms"]


def test_a_large_source_leaves_the_raw_times_out_and_the_input_alone() -> None:
    data = sample(profile={"cells": [cell("sparse", 10.0, times_ms=[10.123456789] * 20_000)]})
    source = json.loads(Page(render_html(data)).source)

    assert "times_ms" not in source["profile"]["cells"][0]
    assert source["profile"]["cells"][0]["latency_ms"]["p50"] == 10.0
    assert len(data.profile["cells"][0]["times_ms"]) == 20_000


def test_a_number_that_is_not_finite_has_no_place_in_json() -> None:
    metrics = copy.deepcopy(sample().metrics)
    metrics["history"][1]["val_loss"] = float("nan")
    source = json.loads(Page(render_html(sample(metrics=metrics))).source, parse_constant=pytest.fail)

    assert source["metrics"]["history"][1]["val_loss"] is None


def _hostile(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _hostile(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_hostile(value) for value in tree]
    return tree + HOSTILE if isinstance(tree, str) else tree


def test_hostile_names_are_text_everywhere() -> None:
    whole = sample()
    parts = {name: _hostile(getattr(whole, name)) for name in PARTS}
    parts["sizes"] = {name + HOSTILE: value for name, value in whole.sizes.items()}
    page = Page(render_html(ReportInput(**parts, command=HOSTILE)))

    _check_self_contained(page)
    assert "b" not in {tag for tag, _ in page.tags}
    assert HOSTILE in page.text
    assert json.loads(page.source)["command"] == HOSTILE


@pytest.mark.parametrize("part", PARTS)
def test_one_missing_part_leaves_the_others(part: str) -> None:
    page = Page(render_html(sample(**{part: {}})))

    assert len([tag for tag, _ in page.tags if tag == "section"]) == 12
    assert page.open == []


def test_nothing_at_all_says_what_was_not_run() -> None:
    page = Page(render_html(ReportInput({}, {}, {}, {}, {}, {}, "")))

    assert page.text.count("Not run:") == 7
    assert "n/a" not in page.text and "None" not in page.text


def _without_each_key(tree: Any) -> Iterator[Any]:
    """Copies of `tree`, each without one key somewhere; of a list, only the first item is changed."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield {k: v for k, v in tree.items() if k != key}
            yield from ({**tree, key: changed} for changed in _without_each_key(value))
    elif isinstance(tree, list) and tree:
        yield from ([changed, *tree[1:]] for changed in _without_each_key(tree[0]))


@pytest.mark.parametrize("part", ["config", "mask", "metrics", "parity", "profile"])
def test_any_key_may_be_missing(part: str) -> None:
    small = sample(profile={**sample().profile, **pair_of(2.0, 1.0)})
    small.mask["table"]["rows"] = small.mask["table"]["rows"][:2]
    for changed in _without_each_key(getattr(small, part)):
        parts = {name: getattr(small, name) for name in PARTS}

        assert "</html>" in render_html(ReportInput(**{**parts, part: changed}, command="ntksap"))


def test_failed_parity_is_loud() -> None:
    parity = copy.deepcopy(sample().parity)
    parity["passed"] = parity["checks"][0]["passed"] = False
    text = Page(render_html(sample(parity=parity))).text

    assert "does not agree with the model" in text
    assert text.count("FAILED") == 1


def test_units_stay_with_their_numbers() -> None:
    assert html.keep_units("in 1 s, 5 % and 2 MB") == "in 1\xa0s, 5\xa0% and 2\xa0MB"
    assert html.keep_units("5 epochs of 2 images") == "5 epochs of 2 images"
