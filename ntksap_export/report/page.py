"""A `Document` as one HTML file that fetches nothing and runs nothing."""

from __future__ import annotations

import re
from functools import cache
from urllib.parse import quote

from jinja2 import Environment

from ntksap_export.report.document import Document, Table, source_text
from ntksap_export.report.templating import environment


def to_html(document: Document) -> str:
    """The page, with each table's CSV behind a link that needs no network."""
    source = source_text(document.source) if document.source else ""
    return _environment().get_template("page.html.jinja").render(page=document, source=source)


@cache
def _environment() -> Environment:
    made = environment(autoescape=True)
    made.filters["units"] = keep_units
    made.filters["csv_link"] = csv_link
    return made


def keep_units(sentence: str) -> str:
    """No line break between a number and its unit."""
    return re.sub(r"(?<=\d) (?=(?:%|ms|s|min|h|[kMGT]?B|[kMGT]|threads?)\b|%)", "\N{NO-BREAK SPACE}", sentence)


def csv_link(table: Table) -> str:
    """The table's CSV as an address that holds it."""
    return f"data:text/csv;charset=utf-8,{quote(table.csv(), safe=',.:;()/')}"
