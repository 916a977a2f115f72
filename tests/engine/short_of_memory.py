"""A plan in a process that may take little memory, then more and more: it is told, and the plan goes on afterwards.

    python -m tests.engine.short_of_memory THREADS

Prints how often memory was short; any other end than exit code 0 is a failure.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from ntksap_export.engine.library import NativePlan
from ntksap_export.errors import UnavailableError
from tests.engine.raw_plans import every_kind
from tests.engine.reference import run_plan

STEP = 2 << 20
MOST = 400 << 20
Made = TypeVar("Made")


def taken() -> int:
    """Bytes of address space that the process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def tried(call: Callable[[], Made], extra: int) -> Made | None:
    """The result with so much more memory to take, or None where that was too little."""
    resource.setrlimit(resource.RLIMIT_AS, (taken() + extra, resource.RLIM_INFINITY))
    try:
        return call()
    except MemoryError:
        return None
    except UnavailableError:  # a thread that could not be started
        return None
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def child(data: bytes, images: np.ndarray, expected: np.ndarray, threads: int, extra: int) -> int:
    """0: it ran; 3: memory was short, and the plan ran afterwards; 1: another result."""
    made = tried(lambda: NativePlan(data), extra)
    plan = NativePlan(data) if made is None else made
    found = None if made is None else tried(lambda: plan.run([images], threads=threads), extra)
    result = plan.run([images], threads=threads) if found is None else found
    if not np.allclose(expected, result[0], atol=1e-4):
        return 1
    return 3 if found is None else 0


def main() -> None:
    threads = int(sys.argv[1])
    data, _ = every_kind()
    images = np.random.default_rng(0).standard_normal((20, 3, 6, 6)).astype(np.float32)
    expected = run_plan(data, [images])[0]
    short = 0
    for extra in range(0, MOST, STEP):
        process = os.fork()  # none has memory that another gave back
        if process == 0:
            os._exit(child(data, images, expected, threads, extra))
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if code not in (0, 3):
            raise SystemExit(f"{extra} bytes more: exit code {code}")
        short += code == 3
        if code == 0:
            break
    print(short)


if __name__ == "__main__":
    main()
