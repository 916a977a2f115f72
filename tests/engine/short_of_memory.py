"""A plan in a process that may take little memory, then more and more: it is told, and the plan goes on afterwards.

    python -m tests.engine.short_of_memory THREADS

Prints how often memory was short; any other end than exit code 0 is a failure.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from ntksap_export.engine.library import NativePlan
from ntksap_export.errors import UnavailableError
from tests.engine.raw_plans import every_kind

STEP = 1 << 20
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


def main() -> None:
    threads = int(sys.argv[1])
    data, _ = every_kind()
    images = np.random.default_rng(0).standard_normal((20, 3, 6, 6)).astype(np.float32)
    expected = NativePlan(data).run([images])[0]
    short = 0
    for extra in range(0, MOST, STEP):
        plan = NativePlan(data)
        found = tried(lambda plan=plan: plan.run([images], threads=threads), extra)  # type: ignore[misc]
        short += found is None
        again = plan.run([images], threads=threads) if found is None else found
        if not np.allclose(expected, again[0], atol=1e-5):
            raise AssertionError(f"another result after {extra} bytes more")
        if found is not None:
            break
    print(short)


if __name__ == "__main__":
    main()
