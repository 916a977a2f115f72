"""Graphs in figures: ten checked by everybody; models x patterns x precisions with sizes, nodes, parity, latency.

    python benchmarks/graphs.py [--seconds 0.3]

Latency is measured as `ntksap profile` does it, on one thread at batch 1, all variants of a model interleaved.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from common import save

from ntksap_export.checkpoint import Provenance, SparseCheckpoint
from ntksap_export.graph import Graph
from ntksap_export.profiling.profile import Variant, profile
from ntksap_export.profiling.settings import Settings
from ntksap_export.runtime import backends
from ntksap_export.runtime.eager import TorchSession
from ntksap_export.runtime.parity import Limits, check_parity, make_probes
from ntksap_export.runtime.verify import verify

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.deployed import CLASSES, PATTERNS, PRECISIONS, TEN, Deployed, deployed

MATRIX = ("resnet20", "vgg16_bn", "resnet50")
RUNTIMES = ("onnxruntime", "openvino", "torch")
COMPILED = ("resnet20",)  # inductor takes minutes for the others


def describe(graph: Graph, path: Path) -> dict[str, Any]:
    """Write it; what its file and its nodes are."""
    graph.save(path)
    onnx.checker.check_model(str(path), full_check=True)
    plain = len(graph.proto.graph.node)
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    settings.optimized_model_filepath = str(path.with_suffix(".fused.onnx"))
    onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    fused = len(onnx.load(settings.optimized_model_filepath).graph.node)
    return {"bytes": path.stat().st_size, "nodes": plain, "fused_nodes": fused, "checker": "passed"}


def apart(case: Deployed, graph: Graph, runtime: str, noise: bool) -> dict[str, Any]:
    """Largest difference from the model, relative to the scale of the logits, over batches 1, 2 and 7."""
    if reason := backends.unavailable(runtime):
        return {"skipped": reason}
    probes = [probe for probe in make_probes(case.images()) if noise or probe.source == "real"]
    session = backends.open_graph(runtime, graph.to_bytes(), threads=1)
    with TorchSession(case.model) as reference:
        parity = check_parity(reference, [session], probes, limits=Limits())
    session.close()
    return {"max_rel": parity.worst.max_rel, "rms_rel": parity.worst.rms_rel, "top1": parity.top1_agreement}


def ten(folder: Path) -> list[dict[str, Any]]:
    rows = []
    for name, size in TEN.items():
        case = deployed(name)
        row = describe(case.graph, folder / "ten.onnx")
        level = verify(case.model, case.graph, case.images(), PRECISIONS["fp32"][1])
        checked = {runtime: apart(case, case.graph, runtime, True) for runtime in ("onnxruntime", "openvino")}
        rows.append({"model": name, "image_size": size, **row, "passed": level.passed, **checked})
        print(rows[-1], flush=True)
    return rows


def variant(case: Deployed, model: str, name: str, graph: Path, folder: Path) -> Variant:
    """What `profile` needs: the graph, and for torch the checkpoint of the network."""
    checkpoint, channels = folder / f"{name}.safetensors", None
    SparseCheckpoint.of(case.model, case.mask, Provenance(model, "magnitude", seed=0)).save(checkpoint)
    if case.plan is not None:
        channels = folder / f"{name}.channels.json"
        channels.write_text(json.dumps(case.plan.to_json()))
    arguments = {"name": model, "num_classes": CLASSES, "stem": "auto"}
    return Variant(name, graph, arguments, checkpoint, (3, case.size, case.size), channels)


def matrix(folder: Path, seconds: float) -> list[dict[str, Any]]:
    rows = []
    for model in MATRIX:
        variants, found = [], {}
        for pattern in PATTERNS:
            case = deployed(model, pattern)
            for precision, (make, _) in PRECISIONS.items():
                name = f"{pattern} {precision}"
                path = folder / f"{model}.{pattern.replace(':', 'of')}.{precision}.onnx"
                graph = make(case)
                parity = {each: apart(case, graph, each, precision != "int8") for each in ("onnxruntime", "openvino")}
                found[name] = {"model": model, "pattern": pattern, "precision": precision, **describe(graph, path)}
                found[name] |= {"parity": parity, "latency": {}}
                variants.append(variant(case, model, name, path, folder))
        measure(variants, found, RUNTIMES + ("torch-compile",) * (model in COMPILED), seconds)
        rows += list(found.values())
    return rows


def measure(
    variants: list[Variant], found: dict[str, dict[str, Any]], runtimes: tuple[str, ...], seconds: float
) -> None:
    """Put p50 and all times beside each graph; torch runs the model, which has one precision."""
    for runtime in runtimes:
        those = [each for each in variants if not backends.takes_model(runtime) or each.name.endswith("fp32")]
        settings = Settings((runtime,), ("cpu",), (1,), (1,), min_time_s=seconds, max_time_s=seconds)
        for cell in profile(those, settings):
            keys = ("status", "reason", "latency_ms", "noise", "times_ms", "options")
            found[cell["variant"]]["latency"][runtime] = {key: cell.get(key) for key in keys}
            print(cell["variant"], runtime, cell["status"], (cell.get("latency_ms") or {}).get("p50"), flush=True)


def text(rows: list[dict[str, Any]], graphs: list[dict[str, Any]]) -> str:
    """The two tables of docs/graphs.md."""
    lines = [
        "| graph | side | MB | nodes | after fusion | checker | onnxruntime | OpenVINO |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in graphs:
        sizes = f"{row['bytes'] / 1e6:.2f} | {row['nodes']} | {row['fused_nodes']}"
        runs = " | ".join(difference(row[runtime]) for runtime in ("onnxruntime", "openvino"))
        lines.append(f"| `{row['model']}` | {row['image_size']} | {sizes} | {row['checker']} | {runs} |")
    heads = ["onnxruntime", "OpenVINO", "torch", "torch-compile"]
    lines += [
        "",
        f"| model | pattern | precision | MB | nodes | differs by (onnxruntime, OpenVINO) | {' | '.join(heads)} |",
    ]
    lines.append("|---" * (6 + len(heads)) + "|")
    for row in rows:
        runs = ", ".join(difference(row["parity"][each]) for each in ("onnxruntime", "openvino"))
        times = " | ".join(milliseconds(row["latency"].get(each.lower())) for each in heads)
        what = f"`{row['model']}` | {row['pattern']} | {row['precision']} | {row['bytes'] / 1e6:.2f} | {row['nodes']}"
        lines.append(f"| {what} | {runs} | {times} |")
    return "\n".join(lines)


def difference(found: dict[str, Any]) -> str:
    return "skipped" if "skipped" in found else f"{found['max_rel']:.0e}"


def milliseconds(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return ""
    if cell["status"] != "measured":
        return "skipped"
    return f"{cell['latency_ms']['p50']:.2f}" + ("*" if cell["noise"].startswith("noisy") else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.3)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as scratch:
        graphs = ten(Path(scratch))
        rows = matrix(Path(scratch), seconds)
    save("graphs", [*graphs, *rows], text(rows, graphs))


if __name__ == "__main__":
    main()
