"""The sparse engine in tests of other rooms: where its library was not built they skip, or pretend that it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from ntksap_export.engine import available, convert
from ntksap_export.graph import Graph

needs_engine = pytest.mark.skipif(not available(), reason="the sparse engine was not built here")
NOT_BUILT = "the sparse engine was not built at install time (no C++ compiler); install g++ or clang and reinstall"


def take_library_away(monkeypatch: pytest.MonkeyPatch, empty: Path) -> None:
    """From now on the library was not built: its folder is `empty`."""
    monkeypatch.setattr("ntksap_export.engine.library._HOME", empty)


def write_engine_graph(graph: Graph, path: Path) -> Path:
    """The graph for the engine; converting needs no library."""
    convert(graph).graph.save(path)
    return path
