"""The life of a measuring process: how it waits, and how it ends."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from ntksap_export.profiling.isolated import CellError, IsolatedCell

from .profiling_cases import children, tiny_spec

pytestmark = pytest.mark.timeout(120)  # a process that hangs is a failure


@pytest.fixture
def spec(tmp_path: Path) -> dict[str, Any]:
    return tiny_spec(tmp_path)


@pytest.mark.parametrize("order", ["run", "memory"])
def test_a_killed_process_is_an_error_not_a_hang(spec: dict[str, Any], order: str) -> None:
    known = {child.pid for child in children()}
    calls: dict[str, Callable[[IsolatedCell], object]] = {
        "run": lambda cell: cell.run(0.01, 2),
        "memory": lambda cell: cell.stop(),
    }

    with IsolatedCell(spec) as cell:
        (process,) = [child for child in children() if child.pid not in known]
        process.kill()
        while process.status() != psutil.STATUS_ZOMBIE:  # not waited for: its exit code is the cell's to read
            time.sleep(0.01)
        with pytest.raises(CellError, match="killed at batch "):
            calls[order](cell)


def test_a_process_killed_while_it_runs_is_an_error_not_a_hang(spec: dict[str, Any]) -> None:
    known = {child.pid for child in children()}

    with IsolatedCell(spec) as cell:
        (process,) = [child for child in children() if child.pid not in known]
        killer = subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -9 {process.pid}"])
        with pytest.raises(CellError, match="killed at batch "):
            while True:
                cell.run(5.0, 10**9)
        killer.wait(30)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("read spec; echo low >&2; echo boom >&2; exit 3", "ended with code 3: boom"),
        ("read spec; exit 4", "ended with code 4: no message"),
        ("read spec; printf '{\"ready\": {}'; exit 5", "ended with code 5: no message"),
        ("exit 6", "ended with code 6: no message"),
    ],
)
def test_a_process_that_ends_leaves_its_last_words(
    spec: dict[str, Any], script: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))

    with pytest.raises(CellError, match=f"the measuring process {words}"):
        IsolatedCell(spec)


def test_threads_of_other_libraries_are_set_before_they_load(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\nread spec; echo "{\\"ready\\": [$OMP_NUM_THREADS, $MKL_NUM_THREADS]}"\n')
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))

    with IsolatedCell({**spec, "threads": 3}) as cell:
        assert [3, 3] == list(cell.ready)


def test_a_process_waits_stopped_and_takes_no_time_from_others(spec: dict[str, Any]) -> None:
    known = {child.pid for child in children()}

    with IsolatedCell(spec) as cell:
        (process,) = [child for child in children() if child.pid not in known]
        states = [_waits(process)]
        cell.run(1e-9, 1)
        states.append(_waits(process))
        before = process.cpu_times()
        time.sleep(0.2)
        after = process.cpu_times()

    assert [psutil.STATUS_STOPPED] * 2 == states
    assert (before.user, before.system) == (after.user, after.system)


def _waits(process: psutil.Process) -> str:
    """Its state, once the signal has arrived."""
    until = time.monotonic() + 30
    while process.status() != psutil.STATUS_STOPPED and time.monotonic() < until:
        time.sleep(0.01)
    return str(process.status())


def test_a_stopped_process_ends_with_its_parent(spec: dict[str, Any], tmp_path: Path) -> None:
    code = f"""
import os, psutil
from ntksap_export.profiling.isolated import IsolatedCell
cell = IsolatedCell({spec!r})
print(psutil.Process().children()[0].pid, flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)

    pid, until = int(done.stdout), time.monotonic() + 30
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
        time.sleep(0.01)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
