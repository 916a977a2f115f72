"""What the pruned network is called: sparse where weights went, slim where channels went, in every place alike."""

from __future__ import annotations

import copy
import re

import pytest

from ntksap_export.cli.profile_table import Screen, latency_table
from ntksap_export.config import pruned_name
from ntksap_export.pipeline import latency_row
from ntksap_export.report import ReportInput, render_card

from .page import html_of
from .sample import sample

NAMES = {"unstructured": "sparse", "2:4": "sparse", "4x1": "sparse", "channel": "slim", "channel+2:4": "slim+sparse"}


def run_of(pattern: str) -> ReportInput:
    config = copy.deepcopy(sample().config)
    config["ntksap"]["config"]["pattern"] = pattern
    return sample(config=config)


@pytest.mark.parametrize(("pattern", "name"), NAMES.items())
def test_the_name_follows_the_pattern(pattern: str, name: str) -> None:
    assert name == pruned_name(pattern)


@pytest.mark.parametrize(("pattern", "name"), NAMES.items())
def test_the_report_uses_one_name(pattern: str, name: str) -> None:
    page = html_of(run_of(pattern)).partition("<script")[0]

    cells = re.findall(r"<t[dh][^>]*>((?:slim|sparse|slim\+sparse)\b[^<]*)</t[dh]>", page)
    assert {name} == {cell.split()[0] for cell in cells}
    assert f"latency p50, {name}" in page
    assert f"<title>{name}: p50 28.1" in page
    assert f"{name} onnxruntime, cuda" in page


@pytest.mark.parametrize(("pattern", "name"), NAMES.items())
def test_the_card_uses_the_same(pattern: str, name: str) -> None:
    rows = [line.split(" | ")[5] for line in render_card(run_of(pattern)).splitlines() if " cpu | fp32 | " in line]

    assert {"dense", name} == set(rows)


@pytest.mark.parametrize(("pattern", "name"), NAMES.items())
def test_the_table_on_the_terminal_uses_the_same(pattern: str, name: str) -> None:
    rows = [latency_row(cell) for cell in sample().profile["cells"]]

    shown = latency_table(rows, pruned_name(pattern), Screen(100, False))

    assert 4 == sum(line.startswith(f"  {name} ") for line in shown)
    assert any(line.startswith("onnxruntime on cuda") and f" {name}" in line and ": skipped" in line for line in shown)
    assert {"sparse", "dense"} == {row["variant"] for row in rows}  # in JSON the names stay
