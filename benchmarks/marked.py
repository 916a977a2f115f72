"""Tables between marks in a document, made again from results.

    <!-- KIND:NAME -->
    ...
    <!-- /KIND -->

Free of torch: tests hold the docs to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = dict[str, Any]
Table = Callable[[Sequence[Row]], str]


def fill(document: str, kind: str, tables: Mapping[str, Table], rows: Sequence[Row]) -> str:
    """A document with its tables as the rows have them.

    Raises:
        KeyError: a mark names no table.
    """
    return marks(kind).sub(lambda found: f"{found[1]}{tables[found[2]](rows)}\n{found[3]}", document)


def marks(kind: str) -> re.Pattern[str]:
    """What stands between two marks, with them."""
    return re.compile(rf"(<!-- {kind}:(\w+) -->\n).*?(<!-- /{kind} -->)", re.DOTALL)


def aligned(heads: Sequence[str], lines: Sequence[Sequence[str]], words: int) -> str:
    """A table in Markdown whose columns line up, the first `words` of them to the left; nothing without lines."""
    if not lines:
        return ""
    widths = [max(4, *map(len, column)) for column in zip(heads, *lines, strict=True)]
    rule = ["-" * width if at < words else f"{'-' * (width - 1)}:" for at, width in enumerate(widths)]
    padded = [
        [
            field.ljust(width) if at < words else field.rjust(width)
            for at, (field, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in (heads, *lines)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in (padded[0], rule, *padded[1:]))
