"""What sparsity, patterns and int8 do to latency, memory and size: one network, side by side in every runtime.

    python benchmarks/profiles.py [--model resnet50 --image-size 224] [--threads 2] [--batches 1,16]
                                  [--min-time 1 --max-time 5] [--rounds 5] [--device cuda] [--only dense 2:4 ...]

Masks of NTK-SAP, chosen at initialization at `--score-size` pixels; weights are drawn, never trained: what a call takes
does not depend on their values, as long as none is subnormal. int8 is calibrated on noise for the same reason; what it
costs in accuracy stands in precision.txt. `channels` removes whole channels until half of the FLOPs are left, the
others only set weights to zero. The cells of one batch and number of threads take turns, each in a process of its own.

Prints a table in Markdown and the verdicts on noise; writes results/profile.json (cells with raw times) and
results/profile.txt, on a GPU profile_cuda.*.
"""

from __future__ import annotations

import argparse
import collections
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import save

from ntksap_export import Budget, Mask, ScoringInputs, SparseCheckpoint, make_scorer, models, prune
from ntksap_export.checkpoint import Provenance
from ntksap_export.cli.console import make_progress
from ntksap_export.graph import export, optimize
from ntksap_export.masks import layer_costs, mask_table, parse_pattern
from ntksap_export.pipeline.twins import lowered
from ntksap_export.profiling.profile import Variant, profile
from ntksap_export.profiling.settings import Settings
from ntksap_export.pruning import ChannelPlan, prune_channels

CLASSES = 1000
BACKENDS = {"cpu": ("onnxruntime", "openvino", "torch"), "cuda": ("onnxruntime", "tensorrt", "torch")}


@dataclass(frozen=True)
class Choice:
    """What is left of the network: a mask of it, or of what remains without the channels of the plan."""

    mask: Mask
    plan: ChannelPlan | None = None


@dataclass(frozen=True)
class Task:
    """How the networks are made."""

    model: str
    size: int
    score_size: int
    rounds: int

    def inputs(self) -> ScoringInputs:
        return ScoringInputs((3, self.score_size, self.score_size), batch_size=16)

    def build(self) -> torch.nn.Module:
        return models.build(self.model, CLASSES, seed=0)


def unstructured(sparsity: float) -> Callable[[Task], Choice]:
    def choose(task: Task) -> Choice:
        budget = Budget(sparsity)
        return Choice(prune(task.build(), make_scorer("ntksap"), task.inputs(), budget, rounds=task.rounds))

    return choose


def two_of_four(task: Task) -> Choice:
    pattern = parse_pattern("2:4")
    return Choice(prune(task.build(), make_scorer("ntksap"), task.inputs(), None, pattern=pattern, rounds=task.rounds))


def channels(task: Task) -> Choice:
    dense = task.build()
    plan = prune_channels(dense, make_scorer("ntksap"), task.inputs(), Budget(flops=0.5), rounds=task.rounds)
    return Choice(Mask.dense(plan.apply(dense)), plan)


NETWORKS: dict[str, Callable[[Task], Choice]] = {
    "dense": lambda task: Choice(Mask.dense(task.build())),
    "80 %": unstructured(0.8),
    "90 %": unstructured(0.9),
    "95 %": unstructured(0.95),
    "2:4": two_of_four,
    "channels": channels,
}


def made(name: str, task: Task, folder: Path) -> tuple[list[Variant], dict[str, Any]]:
    """A network's files, in float32 and int8; and what is left of it, as shares of the dense one."""
    start = time.perf_counter()
    choice, dense = NETWORKS[name](task), task.build()
    model = dense if choice.plan is None else choice.plan.apply(task.build())
    choice.mask.apply_(model)
    shape = (3, task.size, task.size)
    left = mask_table(choice.mask, layer_costs(model, shape))
    whole = mask_table(Mask.dense(dense), layer_costs(dense, shape))
    folder.mkdir()
    checkpoint, plan = folder / "model.safetensors", None
    SparseCheckpoint.of(model, choice.mask, Provenance(task.model, "ntksap", 0)).save(checkpoint)
    if choice.plan is not None:
        plan = folder / "channels.json"
        plan.write_text(json.dumps(choice.plan.to_json()))
    sample = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    graph = optimize(export(model.eval(), sample, mask=choice.mask))[0]
    graph.save(folder / "model.onnx")
    lowered(graph, "int8", shape).save(folder / "model.int8.onnx")
    arguments = {"name": task.model, "num_classes": CLASSES}
    facts = {
        "density": left.kept / whole.kept,
        "flop_density": sum(row.kept_macs for row in left.rows) / sum(row.macs for row in whole.rows),
        "checkpoint_bytes": checkpoint.stat().st_size,
        "seconds_to_make": round(time.perf_counter() - start, 1),
    }
    print(f"{name}: {facts}", flush=True)
    return [
        Variant(name, folder / "model.onnx", arguments, checkpoint, shape, plan),
        Variant(name, folder / "model.int8.onnx", None, None, shape, precision="int8"),
    ], facts


def table(cells: Sequence[Mapping[str, Any]], facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A table in Markdown for each batch and number of threads: median, and its ratio to the dense network's."""
    names = list(dict.fromkeys(cell["backend"] for cell in cells))
    lines = []
    loads = {(cell["batch"], cell["threads"]) for cell in cells if cell["status"] == "measured"}
    for batch, threads in sorted(loads):
        of_it = [cell for cell in cells if (cell["batch"], cell["threads"]) == (batch, threads)]
        heads = ["network", "precision", "FLOPs", "file MB"]
        heads += [f"{name} ms" for name in names] + [f"{name} peak MB" for name in names]
        lines += [
            "",
            f"batch {batch}, threads {threads}",
            "",
            row(heads),
            row(["---", "---", *["---:"] * (len(heads) - 2)]),
        ]
        for name, precision in dict.fromkeys((cell["variant"], cell["precision"]) for cell in of_it):
            found = {
                cell["backend"]: cell
                for cell in of_it
                if (cell["variant"], cell["precision"], cell["status"]) == (name, precision, "measured")
            }
            if found:
                size = next((cell["file_bytes"] for key, cell in found.items() if key != "torch"), None)
                texts = [name, precision, f"{facts[name]['flop_density']:.0%}", megabytes(size)]
                texts += [milliseconds(found.get(backend)) for backend in names]
                texts += [megabytes(peak(found.get(backend))) for backend in names]
                lines.append(row(texts))
    return lines


def row(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def milliseconds(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return "-"
    low, high = cell["median_ci_ms"]
    ratio = cell.get("ratio")
    beside = "" if ratio is None else f" ({ratio['value']:.2f}x)"
    return f"{cell['latency_ms']['p50']:.4g} ±{(high - low) / 2:.2g}{beside}"


def megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.0f}" if size >= 1e7 else f"{size / 1e6:.2f}"


def peak(cell: Mapping[str, Any] | None) -> int | None:
    return None if cell is None else int(cell["memory"]["run_peak_rss_bytes"])


def doubts(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Cells that are noisy, a line each, and why others were not measured, a line per reason."""
    lines, reasons = [], collections.Counter[str]()
    for cell in cells:
        if cell["status"] != "measured":
            reasons[cell["reason"]] += 1
        elif cell["noise"].startswith("noisy"):
            where = f"{cell['variant']} {cell['precision']} in {cell['backend']}, batch {cell['batch']}"
            lines.append(f"{where}, threads {cell['threads']}: {cell['noise']}")
    return lines + [f"not measured, {count} cells: {reason}" for reason, count in reasons.items()]


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50", help="of `ntksap list models`")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--score-size", type=int, default=64, help="side of the images that masks are chosen with")
    parser.add_argument("--rounds", type=int, default=5, help="of NTK-SAP")
    parser.add_argument("--batches", type=numbers, default=(1, 16))
    parser.add_argument("--threads", type=numbers, default=(2,))
    parser.add_argument("--backends", default=None, help="with commas; those of the device")
    parser.add_argument("--precisions", default="fp32,bf16,int8")
    parser.add_argument("--device", choices=BACKENDS, default="cpu")
    parser.add_argument("--only", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--min-time", type=float, default=1.0, help="seconds of a cell at least")
    parser.add_argument("--max-time", type=float, default=5.0, help="and at most")
    parser.add_argument("--name", default=None, help="of the result's files")
    options = parser.parse_args()
    start = time.perf_counter()
    task = Task(options.model, options.image_size, min(options.score_size, options.image_size), options.rounds)
    settings = Settings(
        tuple(options.backends.split(",")) if options.backends else BACKENDS[options.device],
        (options.device,),
        options.batches,
        options.threads,
        precisions=tuple(options.precisions.split(",")),
        min_time_s=options.min_time,
        max_time_s=options.max_time,
    )
    with tempfile.TemporaryDirectory() as scratch:
        networks = {name: made(name, task, Path(scratch) / str(index)) for index, name in enumerate(options.only)}
        variants = [variant for own, _ in networks.values() for variant in own]
        cells = profile(variants, settings, progress=make_progress())
    facts = {name: found for name, (_, found) in networks.items()}
    head = (
        f"{task.model} at {task.size} x {task.size}, untrained; masks of ntksap, {task.rounds} rounds at "
        f"{task.score_size} pixels; int8 calibrated on noise; (x) is to the same runtime's dense network in the same "
        f"precision, of dense itself to fp32; {time.perf_counter() - start:.0f} s in all"
    )
    lines = [head, *table(cells, facts), "", *doubts(cells)]
    usual = "profile" if options.device == "cpu" else f"profile_{options.device}"
    save(options.name or usual, [{"network": name, **found} for name, found in facts.items()] + cells, "\n".join(lines))


if __name__ == "__main__":
    main()
