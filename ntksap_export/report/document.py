"""What a page is made of: report.html, report.md and report.json are three forms of one `Document`."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ntksap_export.report.text import ABSENT

Json = dict[str, Any]

CSV_NAMES = (
    "search", "training", "layers", "latency", "server", "noise", "gpu", "memory", "sizes", "layer_time", "nodes",
    "parity", "precision", "engine", "skipped", "runs", "settings", "environments", "points", "methods",
    "kernels", "isometry", "layer_isometry", "structure", "overlap",
)  # fmt: skip
"""Every name that a table has on some page."""


def plain(value: Any) -> str:
    """A JSON value as text: lists with commas, null as absent."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def in_a_line(value: Any) -> str:
    """A JSON value of any depth as text."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {in_a_line(item)}" for key, item in value.items())
    return plain(value)


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture and the words over it; `picture` is markup, made by `plots`."""

    caption: str
    picture: str


@dataclass(frozen=True, slots=True)
class Figures:
    """Pictures side by side where there is room."""

    kind: ClassVar[str] = "figures"
    figures: tuple[Figure, ...]
    level: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its head for people, its name for machines (`p50_ms`), and how a value is written for people."""

    head: str
    key: str
    form: Callable[[Any], str] = plain
    words: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Values as they were measured; text is made of them where they are shown.

    Attributes:
        name: of its CSV file, without the ending.
        caption: what it shows.
    """

    kind: ClassVar[str] = "table"
    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]

    def texts(self) -> list[list[str]]:
        """The rows as people read them."""
        return [
            [ABSENT if value is None else column.form(value) for column, value in zip(self.columns, row, strict=True)]
            for row in self.rows
        ]

    def csv(self) -> str:
        """The rows as numbers, with a head; what is missing is empty."""
        target = io.StringIO()
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(column.key for column in self.columns)
        writer.writerows([_csv_value(value) for value in row] for row in self.rows)
        return target.getvalue()

    def records(self) -> list[Json]:
        """The rows as JSON objects."""
        return [{column.key: value for column, value in zip(self.columns, row, strict=True)} for row in self.rows]

    def without_empty(self) -> Table:
        """The table without the columns in which no row has a value."""
        return self._of(i for i in range(len(self.columns)) if any(row[i] is not None for row in self.rows))

    def only(self, *keys: str) -> Table:
        """The table with those of the columns that it has, in its order."""
        return self._of(i for i, column in enumerate(self.columns) if column.key in keys)

    def _of(self, places: Iterable[int]) -> Table:
        used = tuple(places)
        columns, rows = tuple(self.columns[i] for i in used), tuple(tuple(row[i] for i in used) for row in self.rows)
        return Table(self.name, self.caption, columns, rows)


def _csv_value(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    text = in_a_line(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text  # a spreadsheet would run it as a formula


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values."""

    kind: ClassVar[str] = "facts"
    rows: tuple[tuple[str, str], ...]
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Words:
    """A paragraph. `tone` is "" or `note`, `absent` or `bad`."""

    kind: ClassVar[str] = "words"
    text: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Bullets:
    """Sentences below each other; `advice` sets them apart."""

    kind: ClassVar[str] = "bullets"
    items: tuple[str, ...]
    advice: bool = False


@dataclass(frozen=True, slots=True)
class Code:
    """What to type."""

    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True, slots=True)
class Folded:
    """Parts behind a line that opens without a script; open in print."""

    kind: ClassVar[str] = "folded"
    summary: str
    parts: tuple[Part, ...]


Part = Figures | Table | Facts | Words | Bullets | Code | Folded


@dataclass(frozen=True, slots=True)
class Section:
    """One heading and what stands under it."""

    id: str
    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A whole page.

    Attributes:
        kicker: which page this is.
        title: of what.
        lines: (heading, sentence): the result, for somebody who reads nothing else.
        tiles: (name, value, note): the few numbers to see first.
        sections: in order.
        files: tables too long for the page, only written as CSV.
        source: the input, embedded for programs.
    """

    kicker: str
    title: str
    lines: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    tiles: tuple[tuple[str, str, str], ...] = ()
    files: tuple[Table, ...] = ()
    source: Json = field(default_factory=dict)

    def tables(self) -> list[Table]:
        """Every table, those on the page first."""
        found = [table for section in self.sections for table in _tables(section.parts)]
        return [*found, *self.files]


def _tables(parts: Sequence[Part]) -> list[Table]:
    found: list[Table] = []
    for part in parts:
        if isinstance(part, Table):
            found.append(part)
        elif isinstance(part, Folded):
            found += _tables(part.parts)
    return found


def figures(*made: Figure | None, level: bool = False) -> tuple[Part, ...]:
    """The pictures that there are; nothing without one."""
    present = tuple(figure for figure in made if figure is not None and figure.picture)
    return (Figures(present, level),) if present else ()


def to_json(document: Document, **more: Any) -> Json:
    """The page for programs: its lines, its tiles and every table as numbers; `more` keys besides."""
    tree = {
        "schema": 1,
        "title": document.title,
        "summary": [{"heading": heading, "text": text} for heading, text in document.lines],
        "tiles": [{"name": name, "value": value, "note": note} for name, value, note in document.tiles],
        "tables": {table.name: table.records() for table in document.tables()},
        **more,
    }
    return dict(finite(tree))


def finite(value: Any) -> Any:
    """NaN and infinity have no JSON: null; tuples are lists."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def source_text(tree: Json) -> str:
    """JSON that cannot end its script element."""
    return json.dumps(finite(tree), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
