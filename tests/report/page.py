"""A page as a reader's browser takes it, and inputs that were made to break it."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

from ntksap_export.report import ReportInput, document, to_html

VOID = {"meta", "br", "hr", "img", "input", "link"}
HOSTILE = '</script><script>alert(1)</script><b onclick="x">\'&'


def html_of(data: ReportInput) -> str:
    """The report of a run."""
    return to_html(document(data))


class Page(HTMLParser):
    """Tags with attributes, the text outside scripts and styles, the embedded source, the title of each picture."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.source = "", ""
        self.open: list[str] = []
        self.pictures: list[list[str]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "svg":
            self.pictures.append([])
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
            if "svg" in self.open:
                self.pictures[-1].append(words)

    def links(self) -> list[str]:
        """Every address of the page."""
        return [str(attrs["href"]) for _, attrs in self.tags if "href" in attrs]


def check_self_contained(page: Page) -> None:
    """Nothing is fetched, nothing is run, every tag is closed."""
    scripts = [attrs for tag, attrs in page.tags if tag == "script"]

    assert all(attrs["type"] == "application/json" for attrs in scripts)
    assert {"link", "img", "iframe", "object", "embed", "base", "form"}.isdisjoint(tag for tag, _ in page.tags)
    for _, attrs in page.tags:
        assert {"src", "srcset", "data", "action"}.isdisjoint(attrs)
        assert not any(name.startswith("on") for name in attrs)
    assert all(link.startswith(("#", "data:text/csv;charset=utf-8,")) for link in page.links())
    assert page.open == []


def hostile(tree: Any) -> Any:
    """The tree with markup in each of its words."""
    if isinstance(tree, dict):
        return {key: hostile(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [hostile(value) for value in tree]
    return tree + HOSTILE if isinstance(tree, str) else tree


def without_each_key(tree: Any) -> Iterator[Any]:
    """Copies of `tree`, each without one key somewhere; of a list, only the first item is changed."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield {k: v for k, v in tree.items() if k != key}
            yield from ({**tree, key: changed} for changed in without_each_key(value))
    elif isinstance(tree, list) and tree:
        yield from ([changed, *tree[1:]] for changed in without_each_key(tree[0]))
