"""Where a call's time goes: each node with its module, its work, and how near it comes to what the machine can do.

gflops         = 2 * macs / time           dense, so that a sparse network shows what its zeros do not save
share_of_peak  = gflops / peak of the same threads and type of numbers
intensity      = 2 * macs / bytes          bytes of inputs, weights and outputs, as if each moved once
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ntksap_export.errors import UnavailableError
from ntksap_export.profiling import opening
from ntksap_export.profiling.activations import activation_peak, held_bytes
from ntksap_export.profiling.cells import Cell, Variant, plan_cells
from ntksap_export.profiling.engine_rows import with_operators
from ntksap_export.profiling.one_shot import ask
from ntksap_export.profiling.roofline import WORKER, measure_machine
from ntksap_export.profiling.settings import Settings
from ntksap_export.progress import Progress, Silent
from ntksap_export.runtime import backends
from ntksap_export.runtime.session import Images

if TYPE_CHECKING:
    from ntksap_export.graph import Graph
    from ntksap_export.graph.costs import NodeCost
    from ntksap_export.graph.marks import Marked
    from ntksap_export.runtime.tracing.traced import NodeTime, Trace

Row = dict[str, Any]
_MULTIPLIES: Final = re.compile(r"conv(?!ert)|gemm|matmul|fullyconnected|attention", re.IGNORECASE)
_UNWATCHED: Final = {
    "torch-compile": "a compiled model has no modules to time; take torch or onnxruntime",
    "tensorrt": "TensorRT's layers are not watched; take onnxruntime on the CPU",
}
_PEAKS: Final = {"fp32": "peak_gflops", "int8": "peak_gflops_int8", "bf16": "peak_gflops_bf16"}


def per_layer(variants: Sequence[Variant], settings: Settings, progress: Progress | None = None) -> dict[str, Any]:
    """`machine` and `layers` of profile.json: the peaks of this machine, then the nodes beside them; see below."""
    planned = [cell for cell in plan_cells(variants, settings) if cell.reason is None and not _refusal(cell)]
    threads = [cell.head["threads"] for cell in planned]
    machine = measure_machine(threads, [cell.precision for cell in planned])
    return {"machine": machine, "layers": measure_layers(variants, settings, machine, progress)}


def measure_layers(
    variants: Sequence[Variant],
    settings: Settings,
    machine: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Watch every variant in every cell, each in a fresh process: runs of their own, whose latency is not reported.

    Args:
        variants: as for `profile`.
        settings: the cells; a variant gets `min_time_s`, half of it unwatched.
        machine: of `measure_machine`; None leaves `share_of_peak` open.
        progress: where cells are shown.

    Returns:
        One row per variant and cell with its `nodes`; `status` is `skipped`, with a reason, where it cannot be watched.
    """
    cells = [cell for cell in plan_cells(variants, settings) if cell.head["streams"] in (None, settings.streams[0])]
    rows = []
    with (progress or Silent()).task("layers", len(cells)) as task:
        for cell in cells:
            head = {key: value for key, value in cell.head.items() if key != "streams"}
            rows.append(head | _watch(cell, settings, machine or {}))
            task.advance(note=f"{head['variant']} {head['precision']} {head['backend']}")
    return rows


def _watch(cell: Cell, settings: Settings, machine: Mapping[str, Any]) -> Row:
    try:
        if reason := cell.reason or _refusal(cell):
            raise UnavailableError(reason)
        found = ask(WORKER, {**cell.spec(settings), "what": "layers", "seconds": settings.min_time_s})
    except UnavailableError as error:
        return {"status": "skipped", "reason": str(error), "total_ms": None, "nodes": []}
    computed = cell.precision if cell.precision != "int8" else "fp32"  # what is no int8 node there
    for node in found["nodes"]:
        kind = "int8" if node.pop("is_int8") else computed
        node["share_of_peak"] = share_of_peak(node["gflops"], machine, cell.head["threads"], kind)
    return {"status": "measured", "reason": None, **found}


def _refusal(cell: Cell) -> str | None:
    if cell.device != "cpu":
        return "nodes are timed on the cpu only: on cuda these clocks count the launches, not the work"
    return _UNWATCHED.get(cell.backend)


def share_of_peak(gflops: float | None, machine: Mapping[str, Any], threads: int, precision: str) -> float | None:
    """Of the peak of these numbers with that many threads; None where either is not known."""
    peak = (machine.get(_PEAKS.get(precision, "")) or {}).get(str(threads))
    return gflops / peak if gflops is not None and peak else None


def watch_here(spec: Mapping[str, Any]) -> Row:
    """The worker's part: watch one network in this process."""
    if backends.takes_model(spec["backend"]):
        return _model_nodes(spec)
    with tempfile.TemporaryDirectory(prefix="layers.") as folder:
        return _graph_nodes(spec, Path(folder))


def _model_nodes(spec: Mapping[str, Any]) -> Row:
    from ntksap_export.runtime.tracing import modules

    opening.import_backend(dict(spec))
    images = np.random.default_rng(0).standard_normal((spec["batch"], *spec["shape"]), dtype=np.float32)
    trace = modules.trace(opening.build_model(dict(spec)), images, spec["threads"], spec["seconds"], spec["precision"])
    rows = []
    for node in trace.nodes:
        assert node.work is not None
        work = (node.work.macs, node.work.nonzero_macs)
        rows.append(_row(node.name, node.op, node.work.module, node.ms, trace.total_ms, work, node.moved_bytes))
    return _summary(trace, rows) | activation_peak(None)


def _graph_nodes(spec: Mapping[str, Any], folder: Path) -> Row:
    from ntksap_export.graph import load_dense
    from ntksap_export.graph.costs import node_costs
    from ntksap_export.graph.marks import marked

    graph = load_dense(Path(spec["graph"]))
    marks = marked(graph)
    path = folder / "marked.onnx"
    marks.graph.save(path)
    images = _given(path, spec)
    costs = node_costs(graph, images.shape)
    trace = _traced(spec, path, images)
    held = held_bytes(spec["backend"], path, images)
    rows = graph_rows(trace, marks, costs)
    for row, node in zip(rows, trace.nodes, strict=True):
        row["in_use_bytes"] = (held or {}).get(node.name)
    return _with_engine(graph, spec, _summary(trace, rows)) | activation_peak(held)


def _with_engine(graph: Graph, spec: Mapping[str, Any], found: Row) -> Row:
    """The same with what runs inside the sparse engine's nodes, where its clock tells it: at one image a call."""
    from ntksap_export.engine import ENGINE_DOMAIN

    if ENGINE_DOMAIN not in graph.domains or spec["batch"] != 1:
        return found
    from ntksap_export.runtime.tracing import engine

    told = {name: engine.operators(plan, spec["threads"]) for name, plan in engine.bodies(graph).items()}
    rows = with_operators(found["nodes"], told, found["total_ms"])
    return {**found, "nodes": rows, "method": f"{found['method']}; {engine.METHOD}"}


def _traced(spec: Mapping[str, Any], path: Path, images: Images) -> Trace:
    if spec["backend"] == "openvino":
        from ntksap_export.runtime.tracing import ov

        return ov.trace(path, images, spec["threads"], spec["seconds"], spec["precision"])
    from ntksap_export.runtime.tracing import ort

    return ort.trace(path, images, spec["threads"], spec["seconds"])


def _given(path: Path, spec: Mapping[str, Any]) -> Images:
    session, shape = opening.open_session({**spec, "graph": str(path), "streams": 1})
    try:
        return opening.draw_images(session, spec["batch"], shape)
    finally:
        session.close()


def graph_rows(trace: Trace, marks: Marked, costs: Sequence[NodeCost]) -> list[Row]:
    """The nodes of a trace, each with the work of the graph's nodes that are in it.

    Args:
        trace: of the marked graph.
        marks: how its names lead back.
        costs: of the graph's nodes, in order.

    Returns:
        A row for each node; a product of the graph counts in one of them.
    """
    owned = _owned([(node.op, marks.origins(node.name)) for node in trace.nodes], costs)
    rows = []
    for node, products in zip(trace.nodes, owned, strict=True):
        origins = marks.origins(node.name)
        parts = [costs[at] for at in products or origins if products or costs[at].macs == 0]
        row = _row(
            parts[0].name if parts else node.name,
            node.op,
            common_module([part.module for part in parts if part.module]),
            node.ms,
            trace.total_ms,
            _work(node, [costs[at] for at in products]),
            _moved(node, parts),
        )
        rows.append(row | {"is_int8": any(part.is_int8 for part in parts)})
    return rows


def _owned(nodes: Sequence[tuple[str, tuple[int, ...]]], costs: Sequence[NodeCost]) -> list[tuple[int, ...]]:
    """Which products of the graph each node of the runtime computes: first those that are called so, then the rest."""
    left = {at for at, cost in enumerate(costs) if cost.macs != 0}
    owned: list[tuple[int, ...]] = [()] * len(nodes)
    for multiplies in (True, False):
        for place, (op, origins) in enumerate(nodes):
            if bool(_MULTIPLIES.search(op)) != multiplies:
                continue
            mine = {at for at in origins if at in left}
            if not mine and multiplies and origins:
                mine = _leading_to(origins[0], left, costs)
            owned[place] = tuple(sorted(mine))
            left -= mine
    return owned


def _leading_to(at: int, left: set[int], costs: Sequence[NodeCost]) -> set[int]:
    """The product whose result an activation after it takes: runtimes call the two after the activation."""
    while costs[at].before and at not in left:
        at = costs[at].before[0]
    return {at} & left


def _work(node: NodeTime, products: Sequence[NodeCost]) -> tuple[int | None, int | None]:
    if not products:
        return (None, None) if _MULTIPLIES.search(node.op) else (0, 0)
    macs = [each.macs for each in products]
    nonzero = [each.nonzero_macs for each in products]
    if None in macs or None in nonzero:
        return None, None
    return sum(each or 0 for each in macs), sum(each or 0 for each in nonzero)


def _moved(node: NodeTime, parts: Sequence[NodeCost]) -> int | None:
    """A weight that the runtime packed when it loaded the graph is no input of the node any more, but is read."""
    if node.moved_bytes is None:
        return None
    return node.moved_bytes - node.constant_bytes + max(node.constant_bytes, sum(part.weight_bytes for part in parts))


def common_module(modules: Sequence[str]) -> str | None:
    """The module that holds all of these; None where only the whole network does."""
    if not modules:
        return None
    parts = [module.split(".") for module in modules]
    same = 0
    while all(len(part) > same and part[same] == parts[0][same] for part in parts):
        same += 1
    return ".".join(parts[0][:same]) or None


def _row(
    node: str,
    op: str,
    module: str | None,
    ms: float,
    total_ms: float,
    work: tuple[int | None, int | None],
    moved: int | None,
) -> Row:
    macs, nonzero = work
    return {
        "node": node,
        "op": op,
        "module": module,
        "ms": ms,
        "share": ms / total_ms if total_ms else 0.0,
        "macs": macs,
        "nonzero_macs": nonzero,
        "gflops": 2 * macs / ms / 1e6 if macs and ms else None,
        "bytes": moved,
        "intensity": 2 * macs / moved if macs and moved else None,
        "is_int8": False,
        "in_use_bytes": None,
    }


def _summary(trace: Trace, rows: list[Row]) -> Row:
    return {
        "total_ms": trace.total_ms,
        "plain_ms": trace.plain_ms,
        "unattributed_ms": trace.total_ms - sum(row["ms"] for row in rows),
        "runs": trace.runs,
        "method": trace.method,
        "nodes": rows,
    }
