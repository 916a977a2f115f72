"""SIGTERM while something trains: noted, so that what was reached can be saved first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def sigterm_noted() -> Iterator[Callable[[], bool]]:
    """Within the block a SIGTERM is noted instead of ending the process; yields whether there was one.

    Only a program's first thread may handle signals; in another one nothing is noted.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
