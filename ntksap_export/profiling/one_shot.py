"""A fresh process that answers one question: `python -m MODULE` reads a line of JSON and writes one; both its sides."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from ntksap_export.errors import NtksapError, UnavailableError

_POOLS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def ask(module: str, spec: Mapping[str, Any]) -> Any:
    """What the module answers.

    Args:
        module: its main calls `reply`.
        spec: as JSON; its `threads` are those of the process's pools.

    Raises:
        UnavailableError: it says why, or it ended without a word.
    """
    threads = str(spec["threads"])
    done = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps(dict(spec)) + "\n",
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, **dict.fromkeys(_POOLS, threads)},
        check=False,
    )
    if done.returncode == -9:
        raise UnavailableError("the measuring process was killed (out of memory?)")
    try:
        answer = json.loads(done.stdout)
    except json.JSONDecodeError:
        words = done.stderr.strip().splitlines()
        last = words[-1] if words else "no message"
        raise UnavailableError(f"the measuring process ended with code {done.returncode}: {last}") from None
    if "error" in answer:
        raise UnavailableError(answer["error"])
    return answer["answer"]


def reply(answer: Callable[[dict[str, Any]], Any]) -> None:
    """The process's side: read the question, work, write `{"answer": ...}` or `{"error": "..."}`."""
    spec = json.loads(sys.stdin.readline())
    with contextlib.redirect_stdout(sys.stderr):  # what somebody's network prints is no answer
        said = _said(answer, spec)
    sys.stdout.write(json.dumps(said) + "\n")


def _said(answer: Callable[[dict[str, Any]], Any], spec: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"answer": answer(spec)}
    except NtksapError as error:
        return {"error": str(error)}
    except MemoryError:
        return {"error": "out of memory"}
    except Exception as error:  # the runtimes' own exception classes have no common public base
        return {"error": f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]}
