"""Several runs on one page: side by side, overlaid, and latencies only of one machine."""

from __future__ import annotations

import dataclasses
from typing import Any

from ntksap_export.report import ReportInput, Run, compare_runs, to_html, to_json, to_markdown

from .page import Page, check_self_contained, hostile
from .sample import profile2, sample


def _with_machine(data: ReportInput, cpu: str) -> ReportInput:
    environment = {**data.profile["environment"], "cpu": cpu}
    return dataclasses.replace(data, profile={**data.profile, "environment": environment})


def _other(accuracy: float, **parts: Any) -> ReportInput:
    data = sample(profile=profile2(), **parts)
    final = {**data.metrics["final"], "val_accuracy": accuracy}
    return dataclasses.replace(data, metrics={**data.metrics, "final": final})


FIRST = sample(profile=profile2())
RUNS = [Run("first", FIRST), Run("second", _other(0.6, sizes={"model.safetensors": 9_000_000}))]


def test_the_page_is_whole_and_holds_both_runs() -> None:
    page = Page(to_html(compare_runs(RUNS)))
    check_self_contained(page)

    sections = [attrs["id"] for tag, attrs in page.tags if tag == "section"]
    assert ["summary", "side", "accuracy", "tradeoffs", "latency", "density", "settings", "environment"] == sections
    assert "first: 91.9 %, 95 % interval 88.6 % to 94.3 %." in page.text
    assert "second: its checkpoint takes 9.00 MB." in page.text
    assert len(page.pictures) >= 9
    assert all(len(title) > 10 and words for title, *words in page.pictures)


def test_runs_that_the_images_cannot_tell_apart_are_said_to_be_so() -> None:
    lines = dict(compare_runs([RUNS[0], Run("close", _other(0.9))]).lines)

    assert lines["Most accurate"].endswith("The intervals of close overlap it.")
    assert "overlap" not in dict(compare_runs(RUNS).lines)["Most accurate"]


def test_a_run_on_another_machine_is_marked_and_its_latency_not_compared() -> None:
    other = Run("elsewhere", _with_machine(_other(0.9), "AMD EPYC"))
    document = compare_runs([*RUNS, other])
    text = to_markdown(document)
    (table,) = [table for table in document.tables() if table.name == "runs"]

    assert "elsewhere was measured on another machine (AMD EPYC): its latency is not compared." in text
    assert ["A", "A", "B"] == [row["machine"] for row in table.records()]
    sections = {section.id: section.parts for section in document.sections}
    drawn = "".join(figure.picture for part in sections["tradeoffs"] for figure in getattr(part, "figures", ()))
    latency, size = drawn.partition("Accuracy against size of the checkpoint")[::2]
    assert ("elsewhere" in latency, "elsewhere" in size) == (False, True)


def test_a_dense_run_is_compared_like_any_other() -> None:
    cells = [cell for cell in profile2()["cells"] if cell["variant"] == "dense"]
    data = _other(0.95)
    document = compare_runs([RUNS[0], Run("twin", dataclasses.replace(data, profile={**data.profile, "cells": cells}))])
    sections = {section.id: section.parts for section in document.sections}
    drawn = "".join(figure.picture for part in sections["tradeoffs"] for figure in getattr(part, "figures", ()))

    assert "twin, fp32: accuracy 95.0 %, 27.7 ms" in drawn
    assert "first, fp32: accuracy 91.9 %, 27.7 ms" not in drawn
    assert dict(document.lines)["Fastest"].startswith("twin: 27.7 ms (onnxruntime")


def test_other_versions_of_a_runtime_are_told() -> None:
    data = _other(0.9)
    environment = {**data.profile["environment"], "versions": {"onnxruntime": "9.9"}}
    other = Run("newer", dataclasses.replace(data, profile={**data.profile, "environment": environment}))

    assert "different versions of onnxruntime: 1.28.0, 9.9." in to_markdown(compare_runs([RUNS[0], other]))


def test_settings_that_differ_are_listed_and_equal_ones_are_not() -> None:
    data = _other(0.9)
    flags = {**data.config["ntksap"]["config"], "sparsity": 0.95}
    config = {**data.config, "ntksap": {"config": flags}}
    tree = to_json(compare_runs([RUNS[0], Run("sparser", dataclasses.replace(data, config=config))]))

    assert [{"setting": "sparsity", "first": "0.9", "sparser": "0.95"}] == tree["tables"]["settings"]


def test_numbers_side_by_side_are_those_of_the_runs() -> None:
    first, second = to_json(compare_runs(RUNS))["tables"]["runs"]

    assert (28.1, 1.014, 0.99, 1.04) == tuple(first[key] for key in ("p50_ms", "ratio", "ratio_low", "ratio_high"))
    assert (0.919, 0.6) == (first["accuracy"], second["accuracy"])
    assert (11_215_904, 9_000_000) == (first["checkpoint_bytes"], second["checkpoint_bytes"])


def test_runs_of_other_layers_have_a_density_map_of_their_own_kind() -> None:
    mask = {**FIRST.mask, "table": {**FIRST.mask["table"], "rows": FIRST.mask["table"]["rows"][:3]}}

    assert "Without short: other layers." in to_markdown(compare_runs([RUNS[0], Run("short", sample(mask=mask))]))


def test_runs_with_missing_parts_are_shown() -> None:
    empty = Run("empty", ReportInput({}, {}, {}, {}, {}, {}, ""))

    for runs in ([empty, empty], [RUNS[0], empty], [empty, RUNS[0]]):
        check_self_contained(Page(to_html(compare_runs(runs))))


def test_hostile_names_are_text() -> None:
    parts = {name: hostile(getattr(FIRST, name)) for name in ("config", "mask", "metrics", "parity", "profile")}
    bad = ReportInput(**parts, sizes=FIRST.sizes, command="")
    page = Page(to_html(compare_runs([Run("<b>x", bad), Run('"><script>', bad)])))
    check_self_contained(page)

    assert "b" not in {tag for tag, _ in page.tags}
