"""How the command line talks: bars on a terminal, plain lines elsewhere, always on standard error."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ntksap_export.cli.pace import Pace
from ntksap_export.progress import Note, Progress, Silent, Task

_EVERY_S = 10.0  # between two plain lines


def make_progress(quiet: bool = False) -> Progress:
    """Nothing if `quiet`; bars if standard error is a terminal; else lines."""
    if quiet:
        return Silent()
    if not sys.stderr.isatty():
        return Lines()
    from ntksap_export.cli.bars import Bars

    return Bars()


def print_json(value: Any) -> None:
    """The result for a pipeline: JSON on standard output."""
    print(json.dumps(value, indent=2, sort_keys=True))


def print_json_line(value: Any) -> None:
    """One result of several for a pipeline: a line of JSON on standard output, as soon as it is known."""
    print(json.dumps(value, sort_keys=True), flush=True)


class Lines:
    """A `Progress` without a terminal: a line every ten seconds, whichever task it is about."""

    def __init__(self) -> None:
        self._innermost: Pace | None = None
        self._shown = 0.0

    def say(self, message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
        outer = self._innermost
        if outer is None:
            self._shown = time.monotonic()
        self._innermost = pace = Pace(name, total, done, outer)
        try:
            yield _LineTask(self, pace)
        finally:
            self._innermost = outer

    def tell(self, pace: Pace, note: Note) -> None:
        """Show where a task stands, if the last line is old enough."""
        now = time.monotonic()
        if now - self._shown < _EVERY_S or pace.done >= pace.total:
            return
        self._shown = now
        parts = (str(note() if callable(note) else note), pace.left_text())
        self.say(f"  {pace.name}: {', '.join(filter(None, (f'{pace.done / pace.total:.0%}', *parts)))}")


class _LineTask:
    def __init__(self, lines: Lines, pace: Pace) -> None:
        self._lines, self._pace = lines, pace

    def advance(self, steps: int = 1, note: Note = "") -> None:
        self._pace.advance(steps)
        self._lines.tell(self._pace, note)
