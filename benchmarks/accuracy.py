"""What each method's mask is worth: ResNet-20 on CIFAR-10 under one short equal recipe.

python benchmarks/accuracy.py --data DIR_OF_SHARDS --out RUNS [--only NAME ...] [--threads N]

Each job is `ntksap prune` and `ntksap train` in a directory of its own; finished ones are skipped, so that a stopped
benchmark goes on. What is done so far is written to results/accuracy.{json,txt} at the end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common import save

EPOCHS = 5
METHODS = (
    "snip", "iter-snip", "force", "grasp", "synflow", "px", "prospr", "phew", "magnitude", "random", "erk", "ntksap",
)  # fmt: skip


def jobs() -> dict[str, list[str]]:
    """Name -> the flags of `ntksap prune`; the most telling first."""
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


def run(name: str, flags: Iterable[str], data: str, out: Path, threads: str) -> None:
    """One job, as a user would run it."""
    directory = out / name
    common = ["--threads", threads]
    program = [sys.executable, "-m", "ntksap_export.cli"]
    prune = ["prune", "resnet20", "--data", data, *flags, *common, "--out", str(directory)]
    subprocess.run([*program, *prune], check=True, stdout=subprocess.DEVNULL)
    train = ["train", str(directory), "--epochs", str(EPOCHS), *common]
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
        "prune_s": mask["seconds"],
        "layer_densities": {layer["name"]: layer["density"] for layer in mask["table"]["rows"]},
    }


def summarize(rows: list[dict[str, Any]]) -> str:
    """One line per setting: mean and spread over its seeds."""
    settings: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in rows:
        settings[one["setting"]].append(one)
    lines = [f"ResNet-20, CIFAR-10, {EPOCHS} epochs; accuracy after the last one, on the 10,000 test images", ""]
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
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--collect", action="store_true", help="run nothing, gather what is finished")
    arguments = parser.parse_args()
    listed = jobs()
    if not arguments.collect:
        for name in arguments.only or listed:
            print(name, flush=True)
            run(name, listed[name], arguments.data, arguments.out, arguments.threads)
    rows = [found for name in listed if (found := row(name, arguments.out / name)) is not None]
    save("accuracy", rows, summarize(rows))


if __name__ == "__main__":
    main()
