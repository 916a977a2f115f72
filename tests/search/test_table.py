"""The table of searches: every entry is there, and what it does not take is refused in one line."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from ntksap_export.errors import ConfigError
from ntksap_export.search import SEARCHES, check_search, search_of
from ntksap_export.search.table import STEPS


@pytest.mark.parametrize("name", [*SEARCHES, "steps"])
def test_every_entry_leads_to_a_function(name: str) -> None:
    module, function = (SEARCHES.get(name) or STEPS).target.split(":")

    assert callable(getattr(import_module(module), function))


def test_the_table_loads_no_torch() -> None:
    code = "import sys; import ntksap_export.search; print('torch' in sys.modules)"

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "False" == answer.stdout.strip()


@pytest.mark.parametrize(
    ("method", "steps", "expected"), [("lottery", 1, "lottery"), ("l1", 3, "steps"), ("ntksap", 1, None)]
)
def test_which_search_a_run_needs(method: str, steps: int, expected: str | None) -> None:
    assert expected == search_of(method, steps)


def test_a_search_takes_no_steps() -> None:
    with pytest.raises(ConfigError, match=r"--steps is for methods that only score; tpp trains by itself"):
        search_of("tpp", 2)


@pytest.mark.parametrize(
    ("name", "pattern", "latency", "told"),
    [
        ("tpp", "2:4", False, "--method tpp removes whole channels; got --pattern 2:4. Use --pattern channel"),
        ("edge-popup", "channel", False, "--method edge-popup chooses single weights; got --pattern channel"),
        ("steps", "channel+2:4", False, r"--steps takes one pattern; got channel\+2:4"),
        ("lottery", "channel", True, "--method lottery does not meet a latency; use --sparsity"),
    ],
)
def test_what_a_search_does_not_take(name: str, pattern: str, latency: bool, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check_search(name, pattern, latency)
