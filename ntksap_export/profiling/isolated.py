"""One measuring process, seen from the parent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Self

from ntksap_export.errors import UnavailableError


class CellError(UnavailableError):
    """A cell that could not be measured; the message becomes its row's reason."""


class IsolatedCell:
    """A fresh process that loads one network and runs it when told.

    Raises:
        CellError: the process could not load or run it.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        threads = str(spec["threads"])
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ntksap_export.profiling.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
        )
        try:
            self._tell(spec)
            self.ready: dict[str, Any] = self._hear("ready")
        except CellError:
            self.close()
            raise

    def run(self, seconds: float, at_least: int) -> list[float]:
        """Milliseconds of each call in this slice."""
        self._tell({"run": seconds, "at_least": at_least})
        return [float(value) for value in self._hear("times_ms")]

    def memory(self) -> dict[str, Any]:
        """Stop the process; its memory in bytes."""
        self._tell({"stop": True})
        return dict(self._hear("memory"))

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with suppress(BrokenPipeError):  # what was not sent to a dead process is flushed once more
                    stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def _tell(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(dict(message)) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise CellError(self._last_words()) from None

    def _hear(self, key: str) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith("\n"):  # nothing, or an answer cut short: the process is gone
            raise CellError(self._last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise CellError(answer["error"])
        return answer[key]

    def _last_words(self) -> str:
        code = self._process.wait()
        if code == -9:
            return "the measuring process was killed (out of memory?)"
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"the measuring process ended with code {code}: {lines[-1] if lines else 'no message'}"
