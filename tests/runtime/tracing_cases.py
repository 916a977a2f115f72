"""onnxruntime's profile, written by hand."""

from __future__ import annotations

from typing import Any


def node(
    name: str, ts: int, dur: int, *, op: str = "Conv", index: int = 0, in_use: int | None = None, delta: int = 0
) -> dict[str, Any]:
    """The event of a node; `in_use` and `delta` are bytes of the arena, None is a profile of before 1.28."""
    args = {
        "op_name": op,
        "node_index": str(index),
        "provider": "CPUExecutionProvider",
        "activation_size": "100",
        "parameter_size": "36",
        "output_size": "64",
        "output_type_shape": [{"float": [1, 16]}],
    }
    if in_use is not None:
        args |= {"mem_bytes_requested_in_use": str(in_use), "mem_requested_in_use_delta": str(delta)}
    return {"cat": "Node", "name": f"{name}_kernel_time", "ph": "X", "ts": ts, "dur": dur, "args": args}


def call(ts: int, dur: int) -> list[dict[str, Any]]:
    """The events of a call: they follow those of its nodes."""
    return [
        {"cat": "Session", "name": "SequentialExecutor::Execute", "ph": "X", "ts": ts + 1, "dur": dur - 2, "args": {}},
        {"cat": "Session", "name": "model_run", "ph": "X", "ts": ts, "dur": dur, "args": {}},
    ]


LOADING = [
    {"cat": "Session", "name": "model_loading_uri", "ph": "X", "ts": 1, "dur": 50, "args": {}},
    {"cat": "Session", "name": "session_initialization", "ph": "X", "ts": 60, "dur": 30, "args": {}},
]
