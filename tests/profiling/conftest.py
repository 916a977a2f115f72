"""What tests of profiling share."""

from __future__ import annotations

import pytest

from .fake_cells import Log, fake_processes


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    """Processes that are none, and what was asked of them."""
    return fake_processes(monkeypatch)
