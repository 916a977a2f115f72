"""What a mask gives without special kernels: channels, parameters, multiply-adds and time that compaction saves.

    python benchmarks/compaction.py [--data DATA --title NAME] [--only MODEL ...] [--runs N]

Masks of NTK-SAP, SNIP, SynFlow and ERK at 95, 98, 99 and 99.5 %, chosen at initialization, whole network, global scope.
`init`: BatchNorm's gamma 1 and beta 0, its statistics those of four batches under the mask (resnet50: as drawn, 0 and
1), so that what a dead channel says is 0. `trained`: 40 steps of SGD on batches of 64 (rate 0.05, momentum 0.9, no
weight decay), in which the betas of dead channels may move. The graphs of a pair are timed in one process,
in turn, one thread, batch 1; they differ in the pass `drop_dead_channels` alone.
"""

from __future__ import annotations

import argparse
import collections
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from common import RESULTS, interleave, ratios, save
from torch import nn

from ntksap_export import Budget, Mask, OrtSession, ScoringInputs, data, keep_pruned, make_scorer, models, prune
from ntksap_export.graph import PASSES, Graph, export, optimize
from ntksap_export.runtime.same import compare_graphs

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
SPARSITIES = (0.95, 0.98, 0.99, 0.995)


@dataclass(frozen=True)
class Case:
    """A network, the side of its images when it is scored and when it is run, and the rounds of each method."""

    model: str
    score_size: int
    run_size: int
    score_batch: int
    rounds: dict[str, int]
    states: tuple[str, ...]


CASES = (
    Case("resnet20", 32, 32, 100, {"ntksap": 10, "snip": 1, "synflow": 100, "erk": 1}, ("init", "trained")),
    Case("vgg16_bn", 32, 32, 32, {"ntksap": 5, "snip": 1, "synflow": 20, "erk": 1}, ("init",)),
    Case("resnet50", 64, 224, 16, {"ntksap": 3, "snip": 1, "synflow": 10, "erk": 1}, ("init",)),
)


def batches(images: data.Loaders, count: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """So many training batches, from the first epoch on."""
    while count > 0:
        for batch in images.train:
            if count <= 0:
                return
            count -= 1
            yield batch


def settle_(model: nn.Module, mask: Mask, state: str, images: data.Loaders) -> None:
    """Bring a freshly drawn network into `state`."""
    mask.apply_(model)
    model.train()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    if state == "init":
        for norm in norms:
            norm.momentum = None  # the mean over the batches
        with torch.no_grad():
            for pictures, _ in batches(images, 4):
                model(pictures)
        return
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    keep_pruned(optimizer, model, mask)
    for pictures, labels in batches(images, 40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(pictures), labels).backward()
        optimizer.step()


def choose(case: Case, method: str, sparsity: float, images: data.Loaders, classes: int) -> Mask:
    drawn = list(batches(images, -(-case.score_batch // 64)))
    joined = torch.cat([pair[0] for pair in drawn]), torch.cat([pair[1] for pair in drawn])
    shape = (3, case.score_size, case.score_size)
    inputs = ScoringInputs(shape, batch_size=case.score_batch, data=joined)
    model = models.build(case.model, classes, seed=0)
    return prune(model, make_scorer(method), inputs, Budget(sparsity), rounds=case.rounds[method])


def measure(case: Case, model: nn.Module, mask: Mask, runs: int, clock: str) -> dict[str, Any]:
    made = export(model.eval(), torch.randn(1, 3, case.run_size, case.run_size), mask=mask)
    names = [name for name in PASSES if name != "drop_dead_channels"]
    full, _ = optimize(made, names)
    small, (log,) = optimize(full, ["drop_dead_channels"])
    checks = compare_graphs(full.to_bytes(), small.to_bytes(), size=case.run_size, atol=1e-5, rtol=1e-4)
    noise = np.random.default_rng(0).standard_normal((1, 3, case.run_size, case.run_size)).astype(np.float32)
    with OrtSession(full.to_bytes(), threads=1) as before, OrtSession(small.to_bytes(), threads=1) as after:
        times = interleave({"full": before.bind(noise), "compact": after.bind(noise)}, runs, clock=CLOCKS[clock])
    reasons: collections.Counter[str] = collections.Counter()
    for item in log.outcome.left:
        reasons[item.why.partition(" of ")[0]] += int(item.what.split()[-3])
    return {
        "said": log.outcome.said,
        "layers": [dict(row) for row in log.outcome.changed],
        "left": dict(reasons),
        **log.outcome.totals,
        "nonzero": [nonzero(full), nonzero(small)],
        "nodes": [len(full.proto.graph.node), len(small.proto.graph.node)],
        "nodes_in_onnxruntime": [nodes_in_runtime(full), nodes_in_runtime(small)],
        "passed": all(item.passed for item in checks),
        "max_abs": max(item.max_abs for item in checks),
        "scale": max(item.scale for item in checks),
        "top1": min(item.top1 for item in checks if item.top1 is not None),
        "ratio": ratios(times, "compact", "full"),
        "times_s": times,
        "clock": clock,
    }


def nonzero(graph: Graph) -> int:
    return sum(int(np.count_nonzero(values)) for _, values in graph.weights())


def nodes_in_runtime(graph: Graph) -> dict[str, int]:
    """What is left of the graph after onnxruntime's own fusions."""
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    settings.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder:
        settings.optimized_model_filepath = str(Path(folder) / "graph.onnx")
        onnxruntime.InferenceSession(graph.to_bytes(), settings, providers=["CPUExecutionProvider"])
        nodes = onnx.load(settings.optimized_model_filepath).graph.node
    return dict(sorted(collections.Counter(node.op_type for node in nodes).items()))


def line(row: dict[str, Any]) -> str:
    shares = [f"{1 - row[key][1] / row[key][0]:>10.1%}" for key in ("channels", "parameters", "macs")]
    times = {name: 1000 * statistics.median(values) for name, values in row["times_s"].items()}
    ratio = row["ratio"]
    border = sum(count for why, count in row["left"].items() if "zero padding" in why)
    spread = f"({ratio['q1']:.3f} to {ratio['q3']:.3f})"
    return (
        f"{row['model']:<9} {row['state']:<8} {row['method']:<8} {row['sparsity']:>6.1%} {''.join(shares)} {border:>8} "
        f"{times['full']:>9.2f} {times['compact']:>9.2f} {ratio['median']:>7.3f} {spread}"
    )


def earlier() -> list[dict[str, Any]]:
    """Rows of the last results: with --only, those of other networks stay."""
    file = RESULTS / "compaction.json"
    return list(json.loads(file.read_text())["rows"]) if file.is_file() else []


HEAD = (
    f"{'model':<9} {'state':<8} {'method':<8} {'sparse':>6} {'channels':>10}{'params':>10}{'MACs':>10} {'border':>8} "
    f"{'full ms':>9} {'small ms':>9} {'ratio':>7} (quartiles)"
)


def write(rows: list[dict[str, Any]], title: str) -> None:
    runs = sorted({f"{row['ratio']['n']} ({row['clock']} time)" for row in rows})
    head = f"data {title}; one thread, batch 1, n = {', '.join(runs)}"
    save("compaction", rows, "\n".join([head, "", HEAD, *map(line, rows)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu where the machine has other users")
    parser.add_argument("--title", default="digits", help="how the results call the data")
    parser.add_argument("--only", nargs="*", default=[case.model for case in CASES])
    parser.add_argument("--methods", nargs="*", default=list(CASES[0].rounds))
    parser.add_argument("--runs", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [r for r in earlier() if r["model"] not in options.only or r["method"] not in options.methods]
    for case in (case for case in CASES if case.model in options.only):
        images = data.loaders(options.data, batch_size=64, image_size=case.score_size)
        classes = len(images.spec.classes)
        for method in (method for method in case.rounds if method in options.methods):
            for sparsity in SPARSITIES:
                mask = choose(case, method, sparsity, images, classes)
                for state in case.states:
                    model = models.build(case.model, classes, seed=0)
                    if case.model != "resnet50":
                        settle_(model, mask, state, images)
                    named = {"model": case.model, "state": state, "method": method, "sparsity": sparsity}
                    found = measure(case, model, mask, options.runs, options.clock)
                    rows.append({**named, "rounds": case.rounds[method], **found})
                    print(line(rows[-1]), rows[-1]["passed"], flush=True)
        order = [case.model for case in CASES], list(CASES[0].rounds)
        rows.sort(key=lambda row: (order[0].index(row["model"]), order[1].index(row["method"])))
        write(rows, options.title)


if __name__ == "__main__":
    main()
