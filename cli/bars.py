"""Bars on a terminal: one live display, a line per open task and one for what the innermost notes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.progress import Task as RichTask
from rich.text import Text

from ntksap_export.cli.pace import Pace, clock
from ntksap_export.progress import Note, Task

_NOTE_EVERY_S = 0.25


class Bars:
    """A `Progress` for a terminal; standard error unless `console` says otherwise."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._bars: _Display | None = None
        self._innermost: Pace | None = None

    def say(self, message: str) -> None:
        self._console.print(message, markup=False, soft_wrap=True)

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
        outer, outer_bars = self._innermost, self._bars
        with ExitStack() as opened:
            bars = outer_bars or opened.enter_context(_Display(self._console))
            pace = Pace(name, total, done, outer)
            number = bars.add_task(name, total=total, completed=done, pace=pace, note="")
            self._innermost, self._bars = pace, bars
            try:
                yield _BarTask(bars, number, pace)
            finally:
                bars.remove_task(number)
                self._innermost, self._bars = outer, outer_bars


class _BarTask:
    def __init__(self, bars: _Display, number: TaskID, pace: Pace) -> None:
        self._bars, self._number, self._pace = bars, number, pace
        self._noted = -_NOTE_EVERY_S

    def advance(self, steps: int = 1, note: Note = "") -> None:
        self._pace.advance(steps)
        if callable(note):
            # Asked here and not where it is drawn: that is another thread.
            if (now := time.monotonic()) - self._noted < _NOTE_EVERY_S:
                self._bars.update(self._number, advance=steps)
                return
            self._noted, note = now, note()
        self._bars.update(self._number, advance=steps, note=str(note))


class _Left(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        return Text(clock(task.fields["pace"].left_s(), " left"))


class _Display(RichProgress):
    """The bars, gone when all are done; the notes stand below, where they have the whole line."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            _Left(),
        )
        super().__init__(*columns, console=console, transient=True)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if task.fields["note"]:
                yield Text(f"  {task.fields['note']}", no_wrap=True, overflow="ellipsis")
