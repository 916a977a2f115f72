"""A process that times several small graphs by turns: `python -m ntksap_export.profiling.many_worker`.

    <- {"backend": ..., "device": ..., "batch": ..., "threads": ..., "graphs": [paths], "slices": [least, most],
        "slice_s": 0.01, "at_least": 2, "warmup_s": 0.02, "target_ci": 0.01}
    -> {"times_ms": [[...], ...]}       one list for each graph, or {"error": "..."}

One order, one answer. Each graph runs in every slice, so that what the machine does meanwhile hits all alike.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ntksap_export.errors import NtksapError
from ntksap_export.profiling.measure import timed_runs, warm_up
from ntksap_export.runtime import backends
from ntksap_export.timing import Timing


def main() -> None:
    """Read the order, work, answer."""
    order = json.loads(sys.stdin.read())
    answer: dict[str, Any]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            answer = {"times_ms": times_of(order)}
    except NtksapError as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": "out of memory"}
    except Exception as error:  # the runtimes' own exception classes have no common public base
        answer = {"error": f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]}
    sys.stdout.write(json.dumps(answer) + "\n")


def times_of(order: dict[str, Any]) -> list[list[float]]:
    """Milliseconds of each call of each graph; between the least and the most slices, until all medians are sure."""
    if order["device"] == "cpu":
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[: order["threads"]])
    draw = np.random.default_rng(0)
    with contextlib.ExitStack() as stack:
        calls = []
        for path in order["graphs"]:
            session = backends.open_graph(order["backend"], Path(path), order["device"], order["threads"])
            stack.callback(session.close)
            images = draw.standard_normal((order["batch"], *session.input_shape), dtype=np.float32)
            calls.append(session.bind(images))
            warm_up(calls[-1], order["warmup_s"])
        times: list[list[float]] = [[] for _ in calls]
        least, most = order["slices"]
        for done in range(1, most + 1):
            for call, own in zip(calls, times, strict=True):
                call()  # what another graph left in the caches is not timed
                own += timed_runs(call, order["slice_s"], at_least=order["at_least"])
            if done >= least and all(_sure(own, order["target_ci"]) for own in times):
                break
    return times


def _sure(times: list[float], target: float) -> bool:
    timing = Timing.of(times)
    return timing.high_ms - timing.low_ms <= 2 * target * timing.ms


if __name__ == "__main__":
    main()
