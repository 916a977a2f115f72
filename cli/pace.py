"""How far a task is and how long it still takes."""

from __future__ import annotations

import time


class Pace:
    """The steps of one task, with the part of the next one that a task inside it has done.

    Args:
        name: what is done.
        total: its steps.
        done: of them, before now.
        outer: the task of which this is one step, or None.
    """

    def __init__(self, name: str, total: int, done: int = 0, outer: Pace | None = None) -> None:
        self.name, self.total, self.done, self.outer = name, total, done, outer
        self._before, self._inside = done, 0.0
        self._began = self._last = time.monotonic()

    def advance(self, steps: int) -> None:
        """Count `steps` more."""
        self.done += steps
        self._inside, self._last = 0.0, time.monotonic()
        if self.outer is not None:
            self.outer._advance_within(self.done / max(self.total, 1))

    def _advance_within(self, share: float) -> None:
        self._inside, self._last = max(self._inside, share), time.monotonic()

    def left_s(self) -> float | None:
        """Seconds to the end, if it goes on as it did; None before anything is done."""
        made = self.done + self._inside - self._before
        if made <= 0:
            return None
        per_step = (self._last - self._began) / made
        return max(0.0, per_step * (self.total - self.done - self._inside) - (time.monotonic() - self._last))

    def left_text(self) -> str:
        """What is left, of this task and of the outermost: `0:00:12 left, 0:05:43 left in all`; empty if unknown."""
        whole = self
        while whole.outer is not None:
            whole = whole.outer
        texts = [clock(self.left_s(), " left")]
        if whole is not self:
            texts.append(clock(whole.left_s(), " left in all"))
        return ", ".join(text for text in texts if text)


def clock(seconds: float | None, what: str) -> str:
    """`12.3` -> `0:00:12`, and `what` behind it; empty for None."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}{what}"
