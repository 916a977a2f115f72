"""model.sparse.onnx beside model.onnx: the same network with its body in a node of the sparse CPU engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from ntksap_export import engine
from ntksap_export.config import RunConfig
from ntksap_export.errors import ConfigError, ExportError, UnavailableError
from ntksap_export.graph import Graph, move_graph, remove_graph
from ntksap_export.graph.costs import node_costs
from ntksap_export.graph.image_input import image_input
from ntksap_export.profiling.profile import Variant, profile
from ntksap_export.profiling.settings import Settings, default_threads
from ntksap_export.progress import Progress
from ntksap_export.runtime.parity import Limits, Parity
from ntksap_export.runtime.session import Images
from ntksap_export.runtime.verify import verify

BODY: Final = "model.sparse.onnx"
REJECTED: Final = "rejected.sparse.onnx"
# Against the torch model, as a share of its logits: the engine computes in float32 in another order.
LIMITS: Final = Limits(atol=1e-5, rtol=1e-4)
_SHOWN: Final = 8  # nodes of one reason that the log names; parity.json has all
_COMPARED_S: Final = 0.3  # of calls of each graph
Compare = Callable[[Graph, Path], Parity]


@dataclass(frozen=True, slots=True)
class Body:
    """What was made. `problem` says what was wrong with a graph that was rejected, or that could not be made.

    Attributes:
        files: in their places.
        entry: for parity.json.
        problem: in one line, or None.
    """

    files: tuple[Path, ...] = ()
    entry: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """Where the graphs lie.

    Attributes:
        plain: the graph without the engine, which is there.
        target: the graph with it.
        staged: a file of the target's name in a folder for files that live only meanwhile.
        rejected: where one goes that is not good enough.
    """

    plain: Path
    target: Path
    staged: Path
    rejected: Path

    @classmethod
    def beside(cls, plain: Path, folder: Path) -> Places:
        """NAME.sparse.onnx beside NAME.onnx; `folder` is for files that live only meanwhile."""
        target = plain.with_name(f"{plain.stem}.sparse.onnx")
        rejected = plain.with_name(f"{plain.stem}.sparse.rejected.onnx")
        return cls(plain, target, folder / target.name, rejected)


@dataclass(frozen=True, slots=True)
class Fed:
    """What both graphs are fed where their speed is compared.

    Attributes:
        batch: the graph's own, or 1 where it takes any.
        shape: (C, H, W).
    """

    batch: int
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, graph: Graph, images: tuple[int, ...]) -> Fed:
        """For a graph that takes `images`, a batch of them as it takes it."""
        taken = image_input(graph)
        _, first, second, third = images
        return cls(taken.sides[0] or 1, (third, first, second) if taken.channels_last else (first, second, third))


def check_engine(asked: bool) -> None:
    """Fail before any long work where the engine's library is asked for and is not here.

    Raises:
        UnavailableError: it was not built.
    """
    if asked:
        engine.library_path()


def plain_of(path: Path) -> Path:
    """Where the graph lies that an engine's graph was made of: model.sparse.onnx -> model.onnx."""
    return path.with_name(f"{path.stem.removesuffix('.sparse')}.onnx")


def refuse_engine(graph: Graph, name: str, what: str) -> None:
    """Refuse a graph of the engine where nodes are to be looked into.

    Raises:
        ConfigError: it is one; the line says what to take.
    """
    if engine.ENGINE_DOMAIN in graph.domains:
        raise ConfigError(f"'{name}' is made for the sparse engine, {what}; use the model.onnx that it was made of")


def remove_body(places: Places) -> None:
    """Delete the engine's graph of another `plain` than the one that is there now."""
    for path in (places.target, places.rejected):
        remove_graph(path)


def write_body(
    config: RunConfig, graph: Graph, images: tuple[int, ...], compare: Compare, places: Places, progress: Progress
) -> Body:
    """Write the engine's graph where `--engine` asks for it; one that is there stays until another takes its place.

    Args:
        config: of the export.
        graph: float32, as it was saved, with dense initializers.
        images: the shape of a batch, as the graph takes it.
        compare: the new graph and its file -> how it compares with what is right, under `LIMITS`.
        places: of the files; only a graph that agrees gets to its target.
        progress: where is said what the engine does not cover, and how fast it is.
    """
    if not config.engine:
        return Body()
    remove_graph(places.rejected)
    name = places.target.name
    try:
        made = engine.convert(graph)
    except ExportError as error:
        return _failed({}, f"{name} was not made: {error}; leave --engine away")
    entry = {**_coverage(made, graph, images), "file": name}
    for line in _lines(entry):
        progress.say(f"  engine: {line}")
    made.graph.save(places.staged, config.external_data)
    try:
        parity = compare(made.graph, places.staged)
        entry |= parity.to_json()
        problem = None if parity.passed else parity.complaint()
    except (ExportError, UnavailableError) as error:  # onnxruntime does not even load it
        problem = str(error)
    if problem is not None:
        made.graph.save(places.rejected, config.external_data)
        rejected = places.rejected.name
        return _failed({**entry, "file": rejected}, f"{name}: {problem}; see {rejected}")
    files = move_graph(places.staged, places.target)
    entry |= {"passed": True, "problem": None, "bytes": sum(file.stat().st_size for file in files)}
    threads = min(torch.get_num_threads(), default_threads()[0])
    entry["speed"] = compare_speed(places.plain, places.target, threads, Fed.of(graph, images))
    progress.say(f"  engine: {speed_line(entry['speed'], name, places.plain.name)}")
    return Body(files, entry)


def against_model(model: nn.Module, images: Images) -> Compare:
    """A comparison with the torch model, on the CPU, over such images and noise."""
    return lambda graph, file: verify(model, graph, images, LIMITS, file=file)


def compare_speed(plain: Path, target: Path, threads: int, fed: Fed) -> dict[str, Any]:
    """Both graphs in turn, each in a process of its own: short, so that a wrong choice is seen.

    Returns:
        `p50_ms` of both, `ratio` (target / plain) with its interval, the batch and the threads; `skipped` with a
        reason where one of them could not be measured.
    """
    settings = Settings(
        ("onnxruntime",), ("cpu",), (fed.batch,), (threads,), min_time_s=_COMPARED_S, max_time_s=2 * _COMPARED_S
    )
    variants = [
        Variant("plain", plain, None, None, fed.shape),
        Variant("engine", target, None, None, fed.shape, engine=True),
    ]
    rows = {row["variant"]: row for row in profile(variants, settings, baseline="plain")}
    for row in rows.values():
        if row["status"] != "measured":
            return {"batch": fed.batch, "threads": threads, "skipped": row["reason"]}
    ratio = rows["engine"].get("ratio", {})
    return {
        "batch": fed.batch,
        "threads": threads,
        "p50_ms": rows["engine"]["latency_ms"]["p50"],
        "plain_p50_ms": rows["plain"]["latency_ms"]["p50"],
        "ratio": {key: ratio.get(key) for key in ("value", "low", "high")},
    }


def engine_summary(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What a program asks first of an entry of parity.json."""
    return {key: entry.get(key) for key in ("passed", "regions", "macs_share", "uncounted", "speed")}


def share_words(entry: Mapping[str, Any]) -> str:
    """The share of the work that runs in the engine, as far as it is known."""
    share = f"{entry['macs_share'] or 0:.1%} of the"
    if not (uncounted := entry.get("uncounted")):
        return f"{share} multiply-accumulates"
    return f"{share} counted multiply-accumulates; {', '.join(uncounted)} not counted, with onnxruntime"


def speed_line(speed: dict[str, Any], name: str, plain: str) -> str:
    """What the comparison says, and which graph to take where the engine's is the slower one."""
    if "skipped" in speed:
        return f"not compared with {plain} in speed: {speed['skipped']}"
    where = f"batch {speed['batch']}, {speed['threads']} thread{'' if speed['threads'] == 1 else 's'}"
    numbers = f"{speed['p50_ms']:.3g} ms against {speed['plain_p50_ms']:.3g} ms of {plain} ({where})"
    if speed["p50_ms"] > speed["plain_p50_ms"]:
        return f"warning: {name} is slower here, {numbers}; use {plain}"
    return f"{numbers}, {speed['plain_p50_ms'] / speed['p50_ms']:.2f} times as fast"


def _failed(entry: dict[str, Any], problem: str) -> Body:
    return Body((), {**entry, "passed": False, "problem": problem}, problem)


def _coverage(made: engine.Converted, graph: Graph, images: tuple[int, ...]) -> dict[str, Any]:
    """What runs in the engine: regions, the share of multiply-accumulates, and why each other node stays."""
    costs = node_costs(graph, images)
    outside = {item.node for item in made.left}
    total = sum(cost.macs or 0 for cost in costs)
    left = sum(cost.macs or 0 for cost in costs if cost.name in outside)
    return {
        "regions": made.regions,
        "nodes": len(made.covered) + len(made.left),
        "macs_share": (total - left) / total if total else 0.0,
        "uncounted": sorted({cost.op_type for cost in costs if cost.macs is None and cost.name in outside}),
        "left": [{"node": item.node, "op_type": item.op_type, "reason": item.reason} for item in made.left],
    }


def _lines(entry: dict[str, Any]) -> list[str]:
    """The coverage for people: nodes that stay with onnxruntime, by their reason."""
    regions, left = entry["regions"], entry["left"]
    lines = [
        f"{entry['nodes'] - len(left)} of {entry['nodes']} nodes in {regions} region{'' if regions == 1 else 's'}, "
        f"{share_words(entry)}"
    ]
    reasons: dict[str, list[str]] = {}
    for item in left:
        reasons.setdefault(item["reason"], []).append(f"{item['op_type']} '{item['node']}'")
    for reason, nodes in reasons.items():
        more = f" and {len(nodes) - _SHOWN} more" if len(nodes) > _SHOWN else ""
        lines.append(f"not covered: {', '.join(nodes[:_SHOWN])}{more}: {reason}")
    return lines
