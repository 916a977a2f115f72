"""One measuring process, seen from the parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal, Self

from ntksap_export.errors import UnavailableError
from ntksap_export.profiling.groups import free_bytes

Kind = Literal["fallback", "memory", "other"]
WAITS = "SIGSTOP"  # recorded beside every measurement: how a process waits for its turn


class CellError(UnavailableError):
    """A cell that could not be measured; the message becomes its row's reason.

    Attributes:
        kind: `fallback` (the runtime took something else than asked), `memory`, or `other`.
    """

    def __init__(self, message: str, kind: Kind = "other") -> None:
        super().__init__(message)
        self.kind = kind


class IsolatedCell:
    """A fresh process that loads one network and runs it when told.

    Between its turns it is stopped (SIGSTOP): threads that wait busily, as onnxruntime's and OpenMP's do for a while,
    take no CPU time from the process whose turn it is. It is killed when this process ends, however that ends.

    Raises:
        CellError: the process could not load or run it.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        threads = str(spec["threads"])
        self._batch = spec["batch"]
        self._free = free_bytes()
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
            self.ready: dict[str, Any] = self._asked(spec)["ready"]
        except BaseException:  # an interrupt too: nobody else knows the process yet
            self.close()
            raise

    def run(self, seconds: float, at_least: int) -> dict[str, Any]:
        """One turn; see `turns.Runner`."""
        return dict(self._asked({"run": seconds, "at_least": at_least})["turn"])

    def serve(self, rate: float, seconds: float, patience_s: float, seed: int) -> dict[str, Any]:
        """Requests at `rate` images/s for `seconds`; see `load.Served`."""
        order = {"serve": rate, "seconds": seconds, "patience_s": patience_s, "seed": seed}
        return dict(self._asked(order)["served"])

    def stop(self) -> dict[str, Any]:
        """End its work; `memory` in bytes, and `gpu` where it ran on one."""
        return self._asked({"stop": True})

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

    def _asked(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Its answer to an order; it is awake only in between."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.stdin.write(json.dumps(dict(message)) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._last_words() from None
        line = self._process.stdout.readline()
        if not line.endswith("\n"):  # nothing, or an answer cut short: the process is gone
            raise self._last_words()
        self._process.send_signal(signal.SIGSTOP)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise self._error(str(answer["error"]), answer.get("kind", "other"))
        return answer

    def _error(self, said: str, kind: Kind) -> CellError:
        if kind == "memory":
            said = f"batch {self._batch} does not fit in memory ({self._free / 1e9:.1f} GB were free): {said}"
        return CellError(said, kind)

    def _last_words(self) -> CellError:
        code = self._process.wait()
        if code == -signal.SIGKILL:
            free = f"{self._free / 1e9:.1f} GB were free"
            return CellError(f"killed at batch {self._batch}, as a system does when memory runs out ({free})", "memory")
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return CellError(f"the measuring process ended with code {code}: {lines[-1] if lines else 'no message'}")
