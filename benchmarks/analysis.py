"""Why a mask trains as it does: the pictures and tables of docs/analysis.md, made by the commands that stand there.

python benchmarks/analysis.py [SUITE ...] [--data DATA] [--out RUNS] [--threads N] [--save] [--write-docs]

Suites: `spectra` (NTK of ResNet-20 under seven masks), `jacobians` (singular values after L1 pruning, four networks),
`mlp7` (L1 and L1+OrthP at two learning rates), `resnet20` (pruned before training and after it, at one density; DATA is
CIFAR-10). Each job is a list of `ntksap` commands in a directory of its own; finished ones are skipped, so that a
stopped benchmark goes on. `--save` writes results/analysis.{json,txt} from the jobs that are done.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import analysis_tables
from common import RESULTS, save

ROOT = Path(__file__).parents[1]
DOCS = (ROOT / "docs" / "analysis.md", ROOT / "README.md")
METHODS = ("ntksap", "snip", "grasp", "synflow", "iter-snip", "magnitude", "random")
NETWORKS = ("mlp7_linear", "mlp7", "lenet5_linear", "lenet5")
RATIOS = ("0", "0.1", "0.3", "0.5", "0.7", "0.9")
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """One row of a table.

    Attributes:
        suite: which table.
        name: of the job and of its directory.
        commands: after `ntksap`, with {data}; run in the folder of the runs.
        read: the directory -> what is told of it.
    """

    suite: str
    name: str
    commands: tuple[str, ...]
    read: Callable[[Path], Json]


def spectra() -> list[Job]:
    """The masks, and one look at all of them."""
    masks = [
        Job(
            "spectra",
            f"spectra-{method}",
            (f"prune resnet20 --data {{data}} --method {method} --sparsity 0.738 --out spectra-{method}",),
            lambda place: {"density": _json(place / "mask.json")["table"]["density"]},
        )
        for method in METHODS
    ]
    named = " ".join(f"--mask spectra-{method}/mask.safetensors" for method in METHODS)
    look = f"analyze resnet20 --data {{data}} --images 64 --only ntk,structure {named}"
    return [
        *masks,
        Job("spectra", "spectra", (f"{look} --form classes --out spectra",), _compared),
        Job("spectra", "spectra-sum", (f"{look} --form sum --seeds 3 --out spectra-sum",), _compared),
    ]


def jacobians() -> list[Job]:
    """Four networks, trained here, and what L1 pruning does to their Jacobians before any fine-tuning."""
    jobs = []
    for network in NETWORKS:
        jobs.append(_dense(f"jacobians-{network}", "jacobians", network))
        for ratio in RATIOS:
            name = f"jacobians-{network}-{ratio}"
            prune = (
                f"prune {network} --data digits --image-size 32 --weights jacobians-{network} --method l1 "
                f"--pattern channel --scope layer --channel-sparsity {ratio} --round-to 1 --out {name}"
            )
            if ratio == "0":
                prune = (
                    f"prune {network} --data digits --image-size 32 --weights jacobians-{network} --method magnitude "
                    f"--sparsity 0 --out {name}"
                )
            look = f"analyze {name} --only isometry --images 100"
            jobs.append(Job("jacobians", name, (prune, look), _jacobian))
    return jobs


def mlp7() -> list[Job]:
    """The paper's experiment: a learning rate ten times lower, with and without recovery."""
    jobs = [_dense("mlp7-dense", "mlp7", "mlp7_linear")]
    for seed in ("0", "1", "2"):
        for rate, milestones in (("0.01", "0.3333333,0.6666666"), ("0.001", "0.5")):
            for how in ("none", "orthp"):
                name = f"mlp7-{how}-{rate}-{seed}"
                prune = (
                    f"prune mlp7_linear --data digits --image-size 32 --weights mlp7-dense --seed {seed} --method l1 "
                    f"--pattern channel --scope layer --channel-sparsity 0.8 --round-to 1 --out {name}"
                )
                train = (
                    f"train {name} --recover {how} --epochs 90 --batch-size 100 --augment none --lr {rate} "
                    f"--schedule step --milestones {milestones} --warmup-epochs 0 --no-nesterov --precision fp32"
                )
                jobs.append(Job("mlp7", name, (prune, train, f"analyze {name} --only isometry --images 100"), _tuned))
    return jobs


def resnet20() -> list[Job]:
    """CIFAR-10 at 70 % sparsity: after a training, before it, and by many of them."""
    start = "prune resnet20 --data {data} --recipe cifar-fast --method magnitude --sparsity 0 --out resnet20-dense"
    keep = "--keep-dense conv1 --keep-dense layer2.0.shortcut.0 --keep-dense layer3.0.shortcut.0"
    slim = f"--weights resnet20-dense --pattern channel --scope layer --sparsity 0.7 --round-to 1 {keep}"
    tuned = "--batch-size 128 --lr 0.01 --schedule step --milestones 0.5,0.75 --warmup-epochs 0 --no-nesterov"
    jobs = [_run("resnet20", "resnet20-dense", start, "--epochs 10")]
    for name, flags, train in (
        ("l1", "--method l1", "--epochs 6"),
        ("l1-orthp", "--method l1", "--epochs 6 --recover orthp"),
        ("tpp", f"--method tpp --search-epochs 3 {tuned} --epochs 3", "--epochs 3"),
    ):
        prune = f"prune resnet20 --data {{data}} {flags} {slim} --out resnet20-{name}"
        jobs.append(_run("resnet20", f"resnet20-{name}", prune, f"{train} {tuned}"))
    ticket = (
        "prune resnet20 --data {data} --recipe cifar-fast --method lottery --search-epochs 4 --rewind-epoch 1 "
        "--epochs 16 --sparsity 0.7 --out resnet20-lottery"
    )
    sap = "prune resnet20 --data {data} --recipe cifar-fast --method ntksap --sparsity 0.7 --out resnet20-ntksap"
    jobs.append(_run("resnet20", "resnet20-ntksap", sap, "--epochs 16"))
    jobs.append(_run("resnet20", "resnet20-lottery", ticket, "--epochs 16"))
    return jobs


def _run(suite: str, name: str, prune: str, train: str) -> Job:
    return Job(suite, name, (prune, f"train {name} {train}"), _trained)


def _dense(name: str, suite: str, network: str) -> Job:
    prune = f"prune {network} --data digits --image-size 32 --method magnitude --sparsity 0 --out {name}"
    train = f"train {name} --epochs 90 --batch-size 100 --augment none --lr 0.01 --schedule step --warmup-epochs 0"
    return Job(suite, name, (prune, train), _trained)


def _compared(place: Path) -> Json:
    networks = _json(place / "analysis.json")["networks"]
    for network in networks:
        network["structure"].pop("layers")
    return {"networks": networks}


def _jacobian(place: Path) -> Json:
    """Without each value of each image."""
    isometry = _json(place / "analysis.json")["networks"][-1]["isometry"]
    return {"isometry": {key: value for key, value in isometry.items() if key not in ("values", "image_means")}}


def _trained(place: Path) -> Json:
    mask, metrics = _json(place / "mask.json"), _json(place / "metrics.json")
    return {
        "density": mask["table"]["density"],
        "flop_density": mask["table"]["flop_density"],
        "search": mask.get("search"),
        "recovery": metrics.get("recovery"),
        "history": [row["val_accuracy"] for row in metrics["history"]],
        "final_accuracy": metrics["final"]["val_accuracy"],
        "start_epochs": 10 if _json(place / "config.json")["ntksap"]["config"]["weights"] else 0,
    }


def _tuned(place: Path) -> Json:
    """The same, and the mean singular value that fine-tuning started from."""
    told = _trained(place)
    masked = next(item for item in _json(place / "analysis.json")["networks"] if item["name"] == "masked")
    start = (told["recovery"] or {}).get("after") or masked["isometry"]
    return {**told, "start_jsv": start["mean"]}


def _json(path: Path) -> Json:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def run(job: Job, folder: Path, data: str, threads: str) -> None:
    """Its commands, as a user would type them; the seconds of each are kept beside the run."""
    program = [sys.executable, "-m", "ntksap_export.cli"]
    seconds = []
    for command in job.commands:
        begun = time.perf_counter()
        subprocess.run(
            [*program, *shlex.split(command.replace("{data}", shlex.quote(data)))],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": threads},
        )
        seconds.append(round(time.perf_counter() - begun, 1))
    _times(folder, job).write_text(json.dumps(seconds))


def _shown(command: str) -> str:
    return command.replace("{data}", "CIFAR10")


def _times(folder: Path, job: Job) -> Path:
    return folder / f"{job.name}.seconds.json"


def row(job: Job, folder: Path) -> Json | None:
    """What a finished job found."""
    if not _times(folder, job).is_file():
        return None
    told = {"suite": job.suite, "job": job.name, "commands": [f"ntksap {_shown(command)}" for command in job.commands]}
    return {**told, "seconds": json.loads(_times(folder, job).read_text()), **job.read(folder / job.name)}


SUITES: dict[str, Callable[[], list[Job]]] = {
    "spectra": spectra,
    "jacobians": jacobians,
    "mlp7": mlp7,
    "resnet20": resnet20,
}


def main() -> None:
    """Run what is not done yet, and write what is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(SUITES))
    parser.add_argument("--data", default="digits", help="CIFAR-10, as `ntksap --data` takes it")
    parser.add_argument("--out", type=Path, default=Path("runs/analysis"))
    parser.add_argument("--threads", default="1")
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--write-docs", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    data = str(Path(options.data).resolve()) if Path(options.data).exists() else options.data
    jobs = [job for name in options.suites for job in SUITES[name]()]
    for job in jobs:
        if not _times(options.out, job).is_file():
            print(f"{job.name} ...", flush=True)
            run(job, options.out, data, options.threads)
    if options.save:
        every = [job for make in SUITES.values() for job in make()]
        rows = [found for job in every if (found := row(job, options.out))]
        save("analysis", rows, analysis_tables.text(rows))
    if options.write_docs:
        rows = _json(RESULTS / "analysis.json")["rows"]
        for document in DOCS:
            document.write_text(analysis_tables.fill(document.read_text(encoding="utf-8"), rows), encoding="utf-8")


if __name__ == "__main__":
    main()
