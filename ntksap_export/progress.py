"""How long work shows itself. The package talks to a `Progress`; the command line decides what it looks like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StepNote:
    """How a training goes, beside its bar.

    Attributes:
        loss: mean over the images of the epoch so far.
        accuracy: share of right answers among them, in [0, 1].
        images_per_s: of the epoch so far.
        lr: learning rate of the last step.
    """

    loss: float
    accuracy: float
    images_per_s: float
    lr: float

    def __str__(self) -> str:
        return (
            f"loss {self.loss:.3f}, accuracy {self.accuracy:.1%}, {self.images_per_s:,.0f} images/s, lr {self.lr:.3g}"
        )


# A function is called only when the note is shown, a few times a second at most: for what is dear to find out, such as
# a loss that lies on a GPU.
Note = str | StepNote | Callable[[], str | StepNote]


class Task(Protocol):
    """One piece of work with a known number of steps."""

    def advance(self, steps: int = 1, note: Note = "") -> None:
        """Say that `steps` more are done; `note` is shown beside the bar."""


class Progress(Protocol):
    """Where messages and progress bars go. Never standard output: that is for results."""

    def say(self, message: str) -> None:
        """Show one line."""

    def task(self, name: str, total: int, done: int = 0) -> AbstractContextManager[Task]:
        """Open a task; a context manager that yields a `Task`.

        A task that is opened within another one is a part of the step that the other has begun: the epochs of a
        training, and the steps of an epoch.

        Args:
            name: what is done.
            total: its steps.
            done: steps that were done before, by an interrupted run: they took no time of this one.
        """


class _SilentTask:
    def advance(self, steps: int = 1, note: Note = "") -> None: ...


class Silent:
    """Shows nothing: the default for the Python functions."""

    def say(self, message: str) -> None: ...

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:  # noqa: ARG002 - the protocol's names
        yield _SilentTask()


class Brief:
    """Leaves out messages of several lines: where many runs follow each other, their tables stay in their files."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def say(self, message: str) -> None:
        if "\n" not in message:
            self._progress.say(message)

    def task(self, name: str, total: int, done: int = 0) -> AbstractContextManager[Task]:
        return self._progress.task(name, total, done)
