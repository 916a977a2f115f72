"""What runs inside a node of the sparse engine, by the engine's own clock. Imports no torch.

onnxruntime's profile shows the node as one. Here its plan runs by itself, on one image, and tells of each operator what
kernel it chose and how long that took. Of larger batches it makes groups, whose times do not add up to a call's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from statistics import median
from typing import Any, Final

import numpy as np

from ntksap_export.engine import ENGINE_DOMAIN, plans
from ntksap_export.engine.library import NativePlan
from ntksap_export.graph import Graph

BATCH: Final = 1
METHOD: Final = "operators within SparseBody by the engine's own clock, medians over runs of its plan alone"
_WARM_UP: Final = 5
_RUNS: Final = 15


def bodies(graph: Graph) -> dict[str, bytes]:
    """The plan of each node of the engine, by the node's name."""
    found = plans(graph)
    nodes = (node for node in graph.proto.graph.node if node.domain == ENGINE_DOMAIN)
    return {node.name or node.output[0]: found[node.output[0]] for node in nodes}


def operators(plan: bytes, threads: int) -> list[dict[str, Any]]:
    """The operators of a plan in order, as its `describe` tells them, `us` being the median of several runs.

    Args:
        plan: of one node.
        threads: of one call.

    Raises:
        UnavailableError: the library was not built.
        CheckpointError: the plan is damaged.
    """
    native = NativePlan(plan)
    draw = np.random.default_rng(0)
    given = [draw.standard_normal((BATCH, *shape), dtype=np.float32) for shape in native.inputs]
    for _ in range(_WARM_UP):
        native.run(given, threads)
    told = []
    for _ in range(_RUNS):
        native.run(given, threads)
        told.append(_described(native))
    native.close()
    last = told[-1]
    return [{**last[number], "us": median(each[number]["us"] for each in told)} for number in sorted(last)]


def _described(native: NativePlan) -> Mapping[int, dict[str, Any]]:
    rows = json.loads(native.describe())["operators"]
    return {row["number"]: row for row in rows if row["images"] == BATCH}
