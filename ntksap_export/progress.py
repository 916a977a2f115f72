"""How long work shows itself. The package talks to a `Progress`; the command line decides what it looks like."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One piece of work with a known number of steps."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Say that `steps` more are done; `note` is shown beside the bar."""


class Progress(Protocol):
    """Where messages and progress bars go. Never standard output: that is for results."""

    def say(self, message: str) -> None:
        """Show one line."""

    def task(self, name: str, total: int) -> AbstractContextManager[Task]:
        """Open a task; a context manager that yields a `Task`."""


class _SilentTask:
    def advance(self, steps: int = 1, note: str = "") -> None: ...


class Silent:
    """Shows nothing: the default for the Python functions."""

    def say(self, message: str) -> None: ...

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:  # noqa: ARG002 - the protocol's names
        yield _SilentTask()
