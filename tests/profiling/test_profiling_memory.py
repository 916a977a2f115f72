"""Each number comes from a fresh process that imports nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ntksap_export.profiling import memory

MB = 10**6
IMPORTS = "import json; from ntksap_export.profiling.memory import peak_rss_bytes, reset_peak, rss_bytes\n"


def _fresh(code: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS + code], capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(done.stdout)


def test_touched_200_mb_are_seen_and_reset_once_freed() -> None:
    found = _fresh("""
start = rss_bytes()
block = b"1" * 200_000_000
held, held_peak = rss_bytes(), peak_rss_bytes()
del block
freed, freed_peak = rss_bytes(), peak_rss_bytes()
resettable = reset_peak()
print(json.dumps([start, held, held_peak, freed, freed_peak, resettable, peak_rss_bytes()]))
""")
    start, held, held_peak, freed, freed_peak, resettable, reset = found

    assert 200 * MB == pytest.approx(held - start, abs=5 * MB)
    assert 200 * MB == pytest.approx(held_peak - start, abs=5 * MB)
    assert start == pytest.approx(freed, abs=5 * MB)
    assert 200 * MB == pytest.approx(freed_peak - start, abs=5 * MB)
    if not resettable:
        pytest.skip("this kernel does not let a process reset its peak")
    assert start == pytest.approx(reset, abs=5 * MB)


def test_peak_after_a_reset_is_that_of_what_came_after() -> None:
    resettable, freed, peak = _fresh("""
block = b"1" * 200_000_000
del block
resettable, freed = reset_peak(), rss_bytes()
block = b"1" * 50_000_000
del block
print(json.dumps([resettable, freed, peak_rss_bytes()]))
""")

    if not resettable:
        pytest.skip("this kernel does not let a process reset its peak")
    assert 50 * MB == pytest.approx(peak - freed, abs=5 * MB)


def test_child_does_not_inherit_the_mark_of_a_large_parent() -> None:
    block = b"1" * (300 * MB)

    child = _fresh("print(json.dumps(peak_rss_bytes()))")

    assert len(block) < memory.peak_rss_bytes()
    assert MB < child < 100 * MB


def test_this_process_is_no_larger_than_its_peak() -> None:
    assert MB < memory.rss_bytes() <= memory.peak_rss_bytes()


def test_without_proc_there_is_still_a_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "absent" / "status")
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "absent" / "clear_refs")

    assert memory.peak_rss_bytes() > MB
    assert not memory.reset_peak()
