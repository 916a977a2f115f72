"""How the command line talks: bars on a terminal, plain lines elsewhere, always on standard error."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ntksap_export.progress import Progress, Task

_EVERY_S = 10.0  # between two plain lines of one task


def make_progress() -> Progress:
    """Bars if standard error is a terminal, else lines."""
    return _Bars() if sys.stderr.isatty() else _Lines()


def print_json(value: Any) -> None:
    """The result for a pipeline: JSON on standard output."""
    print(json.dumps(value, indent=2, sort_keys=True))


class _LineTask:
    def __init__(self, name: str, total: int) -> None:
        self._name, self._total, self._done = name, total, 0
        self._shown = time.monotonic()

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._done += steps
        if time.monotonic() - self._shown >= _EVERY_S and self._done < self._total:
            self._shown = time.monotonic()
            print(f"  {self._name}: {self._done / self._total:.0%} {note}".rstrip(), file=sys.stderr, flush=True)


class _Lines:
    def say(self, message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        yield _LineTask(name, total)


class _BarTask:
    def __init__(self, bars: Any, number: Any) -> None:
        self._bars, self._number = bars, number

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._bars.update(self._number, advance=steps, note=note)


class _Bars:
    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)

    def say(self, message: str) -> None:
        self._console.print(message, markup=False, soft_wrap=True)

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with RichProgress(*columns, console=self._console, transient=True) as bars:
            yield _BarTask(bars, bars.add_task(name, total=total, note=""))
