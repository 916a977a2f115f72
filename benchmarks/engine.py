"""How fast the sparse CPU engine is: beside onnxruntime's dense form and OpenVINO, network by network, layer by layer.

    python benchmarks/engine.py [--quick] [--only NAME,...] [--out DIR]   all of it; under 15 minutes on two cores
    python benchmarks/engine.py --layers                  layers only; the rest of engine.json stays
    python benchmarks/engine.py --write-docs              fill the tables of the docs from engine.json

Each network is exported once (model.onnx, model.sparse.onnx). At each batch onnxruntime, the engine inside onnxruntime
and OpenVINO in f32 and bf16 take turns, each in a process of its own that is stopped between them. Writes
results/engine.json (raw times by turn) and results/engine.txt.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from common import RESULTS, save
from engine_layers import fma_peak, measure
from engine_networks import NETWORKS, make
from engine_tables import TABLES, fill, text

from ntksap_export import engine
from ntksap_export.cli.console import make_progress
from ntksap_export.errors import NtksapError
from ntksap_export.profiling.environment import environment
from ntksap_export.profiling.profile import Variant, profile
from ntksap_export.profiling.roofline import measure_machine
from ntksap_export.profiling.settings import Settings
from ntksap_export.profiling.statistics import ratio_interval
from ntksap_export.runtime import backends

BATCHES = (1, 16)
THREADS = 2
LAYERS = ("resnet50-90", "resnet50-ntksap", "resnet50")
DOCS = ("docs/engine.md", "README.md")
# runtime, as the tables call it -> variant, backend and precision of the cell
RUNTIMES = {
    "onnxruntime": ("plain", "onnxruntime", "fp32"),
    "engine": ("engine", "onnxruntime", "fp32"),
    "openvino f32": ("plain", "openvino", "fp32"),
    "openvino bf16": ("plain", "openvino", "bf16"),
}
KEPT = ("status", "reason", "median_ci_ms", "runs", "slices", "noise", "load_ms", "first_run_ms", "memory", "options")


def cells(name: str, size: int, folder: Path, settings: Settings) -> list[dict[str, Any]]:
    """The rows of a network: each runtime at each batch, with ratios to the others."""
    shape = (3, size, size)
    variants = [
        Variant("plain", folder / "model.onnx", None, None, shape),
        Variant("engine", folder / "model.sparse.onnx", None, None, shape, engine=True),
    ]
    found = []
    for row in profile(variants, settings, baseline="plain", progress=make_progress()):
        key = (row["variant"], row["backend"], row["precision"])
        runtime = next((runtime for runtime, wanted in RUNTIMES.items() if wanted == key), None)
        if runtime is not None:
            found.append(cell(row, name, runtime))
    for batch in settings.batches:
        compare([row for row in found if row["batch"] == batch])
    return found


def cell(row: Mapping[str, Any], name: str, runtime: str) -> dict[str, Any]:
    head = {"kind": "cell", "network": name, "runtime": runtime, "batch": row["batch"]}
    kept = {key: row[key] for key in KEPT if key in row}
    if row["status"] != "measured":
        return {**head, **kept}
    turns: dict[int, list[float]] = {}
    for turn, ms in zip(row["slice_of"], row["times_ms"], strict=True):
        turns.setdefault(turn, []).append(float(f"{ms:.5g}"))
    return {**head, "median_ms": row["latency_ms"]["p50"], **kept, "turns_ms": list(turns.values())}


def compare(rows: Sequence[dict[str, Any]]) -> None:
    """`ratios` of the engine's row: its time as a share of the others', with intervals, turn by turn."""
    there = {row["runtime"]: row for row in rows if row["status"] == "measured"}
    if "engine" not in there:
        return
    mine, together = there["engine"], {row["options"]["side_by_side"] for row in there.values()}
    if together != {len(there)}:
        return  # memory was short: they did not take turns
    for runtime, row in there.items():
        if runtime != "engine":
            medians = [dict(enumerate(map(median, each["turns_ms"]))) for each in (mine, row)]
            ratio = ratio_interval(*medians)
            assert ratio is not None
            mine.setdefault("ratios", {})[runtime] = [float(f"{number:.6g}") for number in ratio]


def errors(size: int, folder: Path) -> dict[str, float]:
    """How far each runtime's logits are from onnxruntime's without graph optimization, as a share of the largest one.

    On noise, at each batch: the engine computes a batch of 16 in another layout.
    """
    images = np.random.default_rng(1).standard_normal((max(BATCHES), 3, size, size), dtype=np.float32)
    worst: dict[str, float] = {}
    with ExitStack() as held:
        reference = held.enter_context(_reference(folder))
        expected = reference.run(images)
        for runtime, (variant, backend, precision) in RUNTIMES.items():
            path = folder / ("model.onnx" if variant == "plain" else "model.sparse.onnx")
            try:
                session = held.enter_context(backends.open_graph(backend, path, "cpu", THREADS, precision=precision))
            except NtksapError:
                continue
            for batch in BATCHES:
                off = np.abs(session.run(images[:batch]) - expected[:batch]).max() / np.abs(expected[:batch]).max()
                worst[runtime] = max(worst.get(runtime, 0.0), float(f"{off:.3g}"))
    return worst


def _reference(folder: Path) -> Any:
    from ntksap_export.runtime.ort import OrtSession

    return OrtSession(folder / "model.onnx", threads=THREADS, optimization="off")


def setup(settings: Settings, seconds: float) -> dict[str, Any]:
    """What holds for all rows."""
    return {
        "kind": "setup",
        **engine.describe(),
        "cpu_isa": environment()["isa"],
        "threads": THREADS,
        "min_time_s": settings.min_time_s,
        "max_time_s": settings.max_time_s,
        "seconds": round(seconds),
    }


def peaks() -> dict[str, Any]:
    """What the machine can do at best."""
    gflops, method = fma_peak(THREADS)
    machine = measure_machine([THREADS])
    found = {"matmul_gflops": machine["peak_gflops"], "bandwidth_gb_s": machine["bandwidth_gb_s"]}
    return {
        "kind": "machine",
        "threads": THREADS,
        "fma_gflops": gflops,
        "fma_method": method,
        **{key: value[str(THREADS)] for key, value in found.items()},
        "method": machine["method"],
    }


def layers(row: Mapping[str, Any], folder: Path, runs: int) -> dict[str, Any]:
    try:
        return measure(row["network"], row["layers"], folder / "model.sparse.onnx", row["size"], THREADS, runs)
    except NtksapError as error:
        return {"kind": "layers", "network": row["network"], "skipped": str(error)}


def measured(names: Sequence[str], settings: Settings, runs: int, networks: bool) -> list[dict[str, Any]]:
    """The rows of the networks and of the layers of some; without `networks` of these layers only."""
    rows: list[dict[str, Any]] = [peaks()] if set(names) & set(LAYERS) else []
    for number, name in enumerate(names, 1):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            try:
                row = make(name, folder)
            except NtksapError as error:
                rows.append({"kind": "network", "network": name, "skipped": str(error)})
                continue
            print(f"{number} of {len(names)}: {name}, made in {row['seconds_to_make']} s", flush=True)
            if networks:
                row["errors"] = errors(row["size"], folder)
                rows += [row, *cells(name, row["size"], folder, settings)]
            if name in LAYERS:
                rows.append(layers(row, folder, runs))
    return rows


def again(path: Path, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a file with those of the layers replaced.

    Raises:
        SystemExit: they are of another machine or other versions.
    """
    content, here = json.loads(path.read_text()), environment()
    if any(content["environment"][key] != here[key] for key in ("cpu", "cores", "versions")):
        raise SystemExit(f"{path.name} is of another machine or other versions; run all of it")
    return [row for row in content["rows"] if row["kind"] not in ("machine", "layers")] + list(rows)


def write_docs(path: Path, root: Path) -> None:
    """Fill what stands between the marks."""
    rows = json.loads(path.read_text())["rows"]
    for name in DOCS:
        document = root / name
        if document.is_file():
            before = document.read_text()
            document.write_text(fill(before, rows))
            print(f"{name}: {sum(f'<!-- engine:{table} -->' in before for table in TABLES)} tables")


def chosen(value: str) -> tuple[str, ...]:
    names = tuple(value.split(","))
    if unknown := [name for name in names if name not in NETWORKS]:
        raise argparse.ArgumentTypeError(f"no network '{unknown[0]}'; there are {', '.join(NETWORKS)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny turns, to see that all works")
    parser.add_argument("--only", type=chosen, default=tuple(NETWORKS), help="of them, with commas")
    parser.add_argument("--layers", action="store_true", help="measure layers only, and keep the rest of engine.json")
    parser.add_argument("--write-docs", action="store_true", help="measure nothing, fill the tables of the docs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where engine.json and engine.txt are")
    options = parser.parse_args()
    if options.write_docs:
        write_docs(options.out / "engine.json", Path(__file__).parents[1])
        return
    least, most, runs = (0.02, 0.02, 3) if options.quick else (0.6, 1.2, 30)
    settings = Settings(
        ("onnxruntime", "openvino"),
        ("cpu",),
        BATCHES,
        (THREADS,),
        precisions=("fp32", "bf16"),
        percentiles=(50.0,),
        min_time_s=least,
        max_time_s=most,
    )
    start = time.perf_counter()
    torch.set_num_threads(THREADS)  # for masks and exports
    names = [name for name in options.only if not options.layers or name in LAYERS]
    rows = measured(names, settings, runs, networks=not options.layers)
    if options.layers:
        rows = again(options.out / "engine.json", rows)
    else:
        rows = [setup(settings, time.perf_counter() - start), *rows]
    save("engine", rows, text(rows), options.out)


if __name__ == "__main__":
    main()
