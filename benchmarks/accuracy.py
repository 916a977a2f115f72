"""What each method's mask is worth: ResNet-20 on CIFAR-10 under one equal recipe.

python benchmarks/accuracy.py --data DATA --out RUNS [--suite methods|fast|paper] [--only NAME ...] [--threads N]

`methods`: every method at 95 %, five epochs, to results/accuracy.{json,txt}. `fast`, for a CPU: dense, NTK-SAP, ERK and
random at the paper's 89.26 and 98.20 % under the recipe `cifar-fast`, to results/accuracy_fast. `paper`, for a GPU:
NTK-SAP at the paper's four sparsities and three seeds under its own recipe, to results/accuracy_paper.

Each job is `ntksap prune` and `ntksap train` in a directory of its own; finished ones are skipped, so that a stopped
benchmark goes on. What is done so far is written at the end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import save

METHODS = (
    "snip", "iter-snip", "force", "grasp", "synflow", "px", "prospr", "phew", "magnitude", "random", "erk", "ntksap",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Suite:
    """Jobs (name -> the flags of `ntksap prune`), the flags of `ntksap train`, and the name of the results."""

    jobs: dict[str, list[str]]
    training: list[str]
    title: str
    results: str


def suites() -> dict[str, Suite]:
    """The suites by name."""
    fast, paper = "the recipe cifar-fast (10 epochs)", "the recipe ntksap-cifar10 (160 epochs)"
    return {
        "methods": Suite(methods(), ["--epochs", "5"], "5 epochs", "accuracy"),
        "fast": Suite(against_dense(), ["--recipe", "cifar-fast"], fast, "accuracy_fast"),
        "paper": Suite(as_published(), ["--recipe", "ntksap-cifar10"], paper, "accuracy_paper"),
    }


def against_dense() -> dict[str, list[str]]:
    """Dense, and three methods at two of the paper's sparsities."""
    listed = {"dense-seed0": ["--method", "magnitude", "--sparsity", "0"]}
    for sparsity in ("0.982", "0.8926"):
        for method in ("ntksap", "erk", "random"):
            listed[f"{method}-{sparsity}-seed0"] = ["--method", method, "--sparsity", sparsity]
    # NTK-SAP empties rows of the classifier here; what that costs
    listed["ntksap+fc-0.982-seed0"] = ["--method", "ntksap", "--sparsity", "0.982", "--keep-dense", "fc"]
    return listed


def as_published() -> dict[str, list[str]]:
    """NTK-SAP as the paper has it: four sparsities, three seeds; and dense."""
    listed = {}
    for seed in ("0", "1", "2"):
        listed[f"dense-seed{seed}"] = ["--method", "magnitude", "--sparsity", "0", "--seed", seed]
        for sparsity in ("0.7379", "0.8926", "0.956", "0.982"):
            listed[f"ntksap-{sparsity}-seed{seed}"] = ["--method", "ntksap", "--sparsity", sparsity, "--seed", seed]
    return listed


def methods() -> dict[str, list[str]]:
    """Every method; the most telling first."""
    listed: dict[str, list[str]] = {}

    def add(method: str, sparsity: str, seed: int, *more: str, tag: str = "") -> None:
        flags = ["--method", method, "--sparsity", sparsity, "--seed", str(seed), *more]
        listed[f"{method}{tag}-{sparsity}-seed{seed}"] = flags

    for method in METHODS:
        add(method, "0.95", 0)
    add("ntksap", "0.95", 0, "--control", "shuffle", tag="+shuffle")
    for method in ("snip", "synflow", "erk", "ntksap"):
        add(method, "0.98", 0)
    for method in ("synflow", "erk", "random", "ntksap"):
        add(method, "0.95", 1)
    add("ntksap", "0.95", 1, "--control", "shuffle", tag="+shuffle")
    for share in ("0.115", "0.05"):
        listed[f"ntksap-flops{share}-seed0"] = ["--method", "ntksap", "--flops", share]
    listed["ntksap-0.9-seed0"] = ["--method", "ntksap", "--sparsity", "0.9"]
    listed["dense-seed0"] = ["--method", "random", "--sparsity", "0"]
    return listed


def run(flags: Iterable[str], training: Iterable[str], data: str, directory: Path, threads: str) -> None:
    """One job, as a user would run it."""
    common = ["--threads", threads]
    program = [sys.executable, "-m", "ntksap_export.cli"]
    prune = ["prune", "resnet20", "--data", data, *flags, *common, "--out", str(directory)]
    subprocess.run([*program, *prune], check=True, stdout=subprocess.DEVNULL)
    train = ["train", str(directory), *training, "--data", data, *common]
    subprocess.run([*program, *train], check=True, stdout=subprocess.DEVNULL)


def row(name: str, directory: Path) -> dict[str, Any] | None:
    """What a finished job found."""
    if not (directory / "metrics.json").is_file():
        return None
    mask = json.loads((directory / "mask.json").read_text())
    metrics = json.loads((directory / "metrics.json").read_text())
    return {
        "job": name,
        "setting": name.rsplit("-seed", 1)[0],
        "final_accuracy": metrics["final"]["val_accuracy"],
        "history": metrics["history"],
        "density": mask["table"]["density"],
        "flop_density": mask["table"]["flop_density"],
        "collapsed_layers": mask["health"]["collapsed_layers"],
        "empty_classes": mask["health"]["empty_classes"],
        "prune_s": mask["seconds"],
        "layer_densities": {layer["name"]: layer["density"] for layer in mask["table"]["rows"]},
    }


def summarize(rows: list[dict[str, Any]], title: str) -> str:
    """One line per setting: mean and spread over its seeds."""
    settings: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in rows:
        settings[one["setting"]].append(one)
    lines = [f"ResNet-20, CIFAR-10, {title}; accuracy after the last one, on the 10,000 test images", ""]
    lines.append(f"{'setting':<24}{'accuracy':>9}  {'spread':>7}  seeds  density  FLOP density  prune s")
    for setting, members in settings.items():
        accuracies = [one["final_accuracy"] for one in members]
        spread = f"{max(accuracies) - min(accuracies):.2%}" if len(members) > 1 else "-"
        first = members[0]
        lines.append(
            f"{setting:<24}{statistics.mean(accuracies):>9.2%}  {spread:>7}  {len(members):>5}  "
            f"{first['density']:>7.2%}  {first['flop_density']:>12.2%}  {first['prune_s']:>7.1f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", choices=tuple(suites()), default="methods")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--collect", action="store_true", help="run nothing, gather what is finished")
    arguments = parser.parse_args()
    suite = suites()[arguments.suite]
    if not arguments.collect:
        for name in arguments.only or suite.jobs:
            print(name, flush=True)
            run(suite.jobs[name], suite.training, arguments.data, arguments.out / name, arguments.threads)
    rows = [found for name in suite.jobs if (found := row(name, arguments.out / name)) is not None]
    save(suite.results, rows, summarize(rows, suite.title))


if __name__ == "__main__":
    main()
