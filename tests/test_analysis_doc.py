"""The tables of docs/analysis.md and the README are those of benchmarks/results/analysis.json; so is analysis.txt."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "analysis.json"


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("analysis_tables")


@pytest.mark.parametrize("document", ["docs/analysis.md", "README.md"])
def test_the_tables_of_the_docs_are_those_of_the_results(tables: ModuleType, document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")

    assert text.count("<!-- analysis:") == text.count("<!-- /analysis -->") > 0
    assert text == tables.fill(text, json.loads(RESULTS.read_text())["rows"]), (
        f"{document}: run `python benchmarks/analysis.py --write-docs`"
    )


def test_the_text_is_that_of_the_raw_data(tables: ModuleType) -> None:
    written = RESULTS.with_suffix(".txt").read_text(encoding="utf-8")

    assert written.rstrip().endswith(tables.text(json.loads(RESULTS.read_text())["rows"]).rstrip())


def test_what_was_not_measured_has_no_table(tables: ModuleType) -> None:
    rows = [{"job": "mlp7-none-0.01-0", "suite": "mlp7", "final_accuracy": 0.5, "commands": [], "seconds": []}]

    text = tables.text(rows)

    assert "| L1   |     50.00 |" in text
    assert "ResNet-20" not in text
    assert "<!-- analysis:mlp7 -->\n| " in tables.fill("<!-- analysis:mlp7 -->\nold\n<!-- /analysis -->", rows)
