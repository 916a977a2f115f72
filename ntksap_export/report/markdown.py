"""A `Document` as Markdown: every sentence and table of the page, without its pictures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ntksap_export.report.document import Bullets, Code, Document, Facts, Figures, Folded, Part, Table, Words


def escaped(value: object) -> str:
    """One line of Markdown text in which nothing is markup or ends a table cell."""
    return re.sub(r"([\\`*_\[\]<>|#&])", r"\\\1", " ".join(str(value).split()))


def fence_of(code: str) -> str:
    """A fence that the code does not contain."""
    return "`" * max(3, 1 + max((len(run) for run in re.findall("`+", code)), default=0))


def to_markdown(document: Document) -> str:
    """The whole page; blocks are parted by one empty line."""
    blocks = [f"# {escaped(document.title)}"]
    blocks += [f"**{escaped(heading)}:** {escaped(sentence)}" for heading, sentence in document.lines]
    if document.tiles:
        blocks.append(grid(("measure", "value", "note"), document.tiles, (True, False, True)))
    for section in document.sections:
        body = _blocks(section.parts)
        blocks += [f"## {escaped(section.title)}", *body] if body else []
    return "\n\n".join(blocks) + "\n"


def _blocks(parts: Sequence[Part]) -> list[str]:
    found: list[str] = []
    for part in parts:
        if isinstance(part, Table):
            heads = [column.head for column in part.columns]
            table = grid(heads, part.texts(), [column.words for column in part.columns])
            found += [f"{escaped(part.caption)}:", table]
        elif isinstance(part, Facts):
            found.append(grid(("", ""), part.rows, (True, True)))
        elif isinstance(part, Words):
            found.append(f"**{escaped(part.text)}**" if part.tone == "bad" else escaped(part.text))
        elif isinstance(part, Bullets):
            found.append("\n".join(f"- {escaped(item)}" for item in part.items))
        elif isinstance(part, Code):
            fence = fence_of(part.text)
            found.append(f"{fence}sh\n{part.text}\n{fence}")
        elif isinstance(part, Folded):
            inner = _blocks(part.parts)
            found += [f"### {escaped(part.summary)}", *inner] if inner else []
        else:
            assert isinstance(part, Figures)  # pictures stay on the page
    return found


def grid(heads: Iterable[str], rows: Iterable[Iterable[str]], words: Iterable[bool]) -> str:
    """A table; columns of numbers are set to the right."""
    rules = "|".join("---" if word else "---:" for word in words)
    lines = [f"| {' | '.join(map(escaped, heads))} |", f"|{rules}|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(escaped, row))} |" for row in rows)])
