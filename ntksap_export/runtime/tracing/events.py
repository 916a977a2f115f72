"""onnxruntime's profile: a list of events, of which those of each run are taken apart.

    {"cat": "Session", "name": "model_run", "ts": 100, "dur": 900}                       microseconds, one per call
    {"cat": "Node", "name": "conv_kernel_time", "ts": 120, "dur": 400, "args": {"op_name": "Conv", "node_index": "3",
     "activation_size": "...", "parameter_size": "...", "output_size": "...", "mem_bytes_requested_in_use": "..."}}

A node's event lies within its call's; calls of one session do not overlap. Numbers are text there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from ntksap_export.errors import UnavailableError
from ntksap_export.runtime.tracing.traced import NodeTime

_SUFFIX: Final = "_kernel_time"
_IN_USE: Final = "mem_bytes_requested_in_use"
_DELTA: Final = "mem_requested_in_use_delta"
Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """One call: its milliseconds, and the events of its nodes in order."""

    ms: float
    nodes: tuple[Event, ...]


def runs(events: Sequence[Event]) -> tuple[Run, ...]:
    """The calls in a profile, in order."""
    calls = sorted((each for each in events if each["name"] == "model_run"), key=lambda each: each["ts"])
    nodes = sorted((each for each in events if _is_node(each)), key=lambda each: each["ts"])
    found, place = [], 0
    for call in calls:
        end, mine = call["ts"] + call["dur"], []
        while place < len(nodes) and nodes[place]["ts"] <= end:
            if nodes[place]["ts"] >= call["ts"]:
                mine.append(nodes[place])
            place += 1
        found.append(Run(call["dur"] / 1e3, tuple(mine)))
    return tuple(found)


def node_times(found: Sequence[Run]) -> tuple[NodeTime, ...]:
    """Each node's median over the runs; a node that ran several times in a call, in a loop, counts as one.

    Raises:
        UnavailableError: there is no node in any of them.
    """
    if not any(run.nodes for run in found):
        raise UnavailableError("onnxruntime's profile has no nodes; profile without --per-layer")
    times: dict[tuple[str, str, str], list[float]] = {}
    first: dict[tuple[str, str, str], Event] = {}
    for number, run in enumerate(found):
        for event in run.nodes:
            key = _key(event)
            first.setdefault(key, event)
            row = times.setdefault(key, [0.0] * len(found))
            row[number] += event["dur"] / 1e3
    return tuple(_node(first[key], median(row)) for key, row in times.items())


def requested_bytes(run: Run) -> dict[str, int]:
    """Bytes that a call had asked of the arena at each node, beside what lay there before it: values between nodes.

    Weights that onnxruntime packed when it loaded the graph lie in the same arena; they are not counted. A node that
    ran several times in the call has its most. Empty where the profile says nothing of memory: before onnxruntime
    1.28, and with the arena off.
    """
    held = [(node["name"], node["args"]) for node in run.nodes if _IN_USE in node["args"]]
    if not held:
        return {}
    before = int(held[0][1][_IN_USE]) - int(held[0][1][_DELTA])
    found: dict[str, int] = {}
    for name, args in held:
        node = name.removesuffix(_SUFFIX)
        found[node] = max(int(args[_IN_USE]) - before, found.get(node, 0))
    return found


def _is_node(event: Event) -> bool:
    return event["cat"] == "Node" and str(event["name"]).endswith(_SUFFIX)


def _key(event: Event) -> tuple[str, str, str]:
    args = event["args"]
    return args.get("node_index", ""), args["op_name"], event["name"]


def _node(event: Event, ms: float) -> NodeTime:
    args = event["args"]
    sizes = [int(args.get(f"{kind}_size", 0)) for kind in ("activation", "output", "parameter")]
    return NodeTime(event["name"].removesuffix(_SUFFIX), args["op_name"], ms, sum(sizes), sizes[2])
