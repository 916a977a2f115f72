"""One document, four forms: every table is the same on the page, in Markdown, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any
from urllib.parse import unquote

import pytest

from ntksap_export.report import CSV_NAMES, ReportInput, document, to_json, to_markdown
from ntksap_export.report.document import Column, Table
from ntksap_export.report.page import csv_link

from .page import HOSTILE, Page, hostile, html_of
from .sample import profile2, sample

DATA = sample(profile=profile2())
TABLES = {table.name: table for table in document(DATA).tables()}
EMPTY = ReportInput({}, {}, {}, {}, {}, {}, "")


def _read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("name", TABLES)
def test_a_csv_parses_back_to_the_values_of_its_table(name: str) -> None:
    table = TABLES[name]
    rows = _read(table.csv())

    assert len(table.rows) == len(rows) > 0
    for record, row in zip(table.records(), rows, strict=True):
        assert list(record) == list(row)
        for key, value in record.items():
            if isinstance(value, float):
                assert value == float(row[key])
            elif isinstance(value, int) and not isinstance(value, bool):
                assert value == int(row[key])
            elif isinstance(value, str):
                assert value == row[key]


@pytest.mark.parametrize("name", [name for name in TABLES if name != "nodes"])
def test_the_link_of_a_table_holds_its_csv(name: str) -> None:
    links = [link for link in Page(html_of(DATA)).links() if link.startswith("data:")]
    held = {unquote(link.partition(",")[2]) for link in links}

    assert TABLES[name].csv() in held
    assert csv_link(TABLES[name]) in links


def test_the_names_of_tables_are_known_and_each_stands_once() -> None:
    names = [table.name for table in document(DATA).tables()]

    assert len(names) == len(set(names))
    assert set(names) <= set(CSV_NAMES)
    assert {"training", "layers", "latency", "memory", "sizes", "layer_time", "nodes", "parity"} <= set(names)


def test_the_columns_of_machines_have_their_units() -> None:
    keys = [column.key for column in TABLES["latency"].columns]

    assert {"p50_ms", "p50_low_ms", "p50_high_ms", "p99.9_ms", "throughput_images_per_s", "ratio_low"} <= set(keys)
    assert len(keys) == len(set(keys))


def test_what_is_missing_is_empty_and_a_formula_is_text() -> None:
    columns = (Column("a", "a"), Column("b", "b"), Column("c", "c"))
    table = Table("t", "", columns, ((None, float("nan"), "=1+1"), (True, -1.5, 'a,"b"\n')))

    assert [["", "", "'=1+1"], ["true", "-1.5", 'a,"b"\n']] == [list(row.values()) for row in _read(table.csv())]
    assert [["n/a", "nan", "=1+1"], ["yes", "-1.5", 'a,"b"\n']] == table.texts()


def test_json_has_the_lines_and_every_table_as_numbers() -> None:
    tree = json.loads(json.dumps(to_json(document(DATA), command="ntksap"), allow_nan=False))

    assert ["What it is", "What it costs", "What it gains"] == [line["heading"] for line in tree["summary"]]
    assert set(TABLES) == set(tree["tables"])
    assert tree["tables"]["latency"][0]["p50_ms"] == 27.7
    assert ("ntksap", 1) == (tree["command"], tree["schema"])


def test_markdown_has_every_table_whole_and_every_line() -> None:
    page, text = document(DATA), to_markdown(document(DATA))
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)

    assert "\n\n\n" not in text and text.startswith("# resnet50 at 90.4 % sparsity\n")
    for heading, sentence in page.lines:
        assert f"**{heading}:** {sentence}" in text
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1
    on_page = [table for table in page.tables() if table not in page.files]
    lengths = [len(table.splitlines()) - 2 for table in tables]
    for table_ in on_page:
        assert len(table_.rows) in lengths
    assert [section.title for section in page.sections] == re.findall(r"^## (.*)$", text, re.MULTILINE)


@pytest.mark.parametrize("data", [EMPTY, sample(), DATA], ids=["empty", "schema 1", "schema 2"])
def test_every_form_of_every_input_is_made(data: ReportInput) -> None:
    page = document(data)

    assert to_markdown(page).startswith("# ")
    assert len(to_json(page)["summary"]) == 3


def test_hostile_words_stay_words_in_every_form() -> None:
    parts: dict[str, Any] = {name: hostile(getattr(DATA, name)) for name in ("config", "mask", "metrics", "profile")}
    page = document(ReportInput(**parts, parity={}, sizes={}, command=HOSTILE))
    outside = re.sub(r"```.*?```", "", to_markdown(page), flags=re.DOTALL)

    assert not re.search(r"(?<!\\)<", outside)
    assert all(len(table.rows) == len(_read(table.csv())) for table in page.tables())
