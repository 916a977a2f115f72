"""A process that times several small graphs by turns: `python -m ntksap_export.profiling.many_worker` (`one_shot`).

    <- {"backend": ..., "device": ..., "batch": ..., "threads": ..., "graphs": [paths], "turns": [least, most],
        "turn_s": 0.01, "at_least": 2, "warmup_s": 0.02, "target_ci": 0.03}
    -> {"answer": [[[ms, ...] of a turn, ...] of a graph, ...]} or {"error": "..."}

Each graph has its turn before the next ones begin, so that what the machine does meanwhile hits all alike.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from statistics import median
from typing import Any

from ntksap_export.profiling.measure import timed_runs, warm_up
from ntksap_export.profiling.one_shot import reply
from ntksap_export.profiling.opening import draw_images, pin
from ntksap_export.profiling.statistics import half_width
from ntksap_export.runtime import backends


def main() -> None:
    """Read the order, work, answer."""
    reply(turns_of)


def turns_of(order: dict[str, Any]) -> list[list[list[float]]]:
    """Milliseconds of each call of each turn of each graph, until all medians are sure or the turns are used up."""
    if order["device"] == "cpu":
        pin(order["threads"])
    warmup_s = order["warmup_s"]
    with contextlib.ExitStack() as stack:
        calls = []
        for path in order["graphs"]:
            session = backends.open_graph(order["backend"], Path(path), order["device"], order["threads"])
            stack.callback(session.close)
            calls.append(session.bind(draw_images(session, order["batch"], session.input_shape)))
            warm_up(calls[-1], warmup_s, 5 * warmup_s)
        turns: list[list[list[float]]] = [[] for _ in calls]
        least, most = order["turns"]
        for done in range(1, most + 1):
            for call, own in zip(calls, turns, strict=True):
                call()  # what another graph left in the caches is not timed
                own.append(timed_runs(call, order["turn_s"], at_least=order["at_least"]))
            medians = [[median(turn) for turn in own] for own in turns]
            if done >= least and all(half_width(own) <= order["target_ci"] for own in medians):
                break
    return turns


if __name__ == "__main__":
    main()
