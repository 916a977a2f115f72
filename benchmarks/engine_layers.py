"""Where the engine's time goes: each operator of a plan at batch 1, beside what the FMA units could do.

    useful GFLOP/s = 2 * multiply-adds by weights that are not zero / time
    share          = useful GFLOP/s / peak of as many threads (fma_peak.cpp)

`python -m engine_layers` is the measuring process; see `measure`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from ntksap_export.errors import UnavailableError
from ntksap_export.profiling.one_shot import ask, reply

HERE = Path(__file__).parent
SHAPE_KEYS = ("number", "kind", "input", "output", "kernel_size", "density", "macs", "kernel", "parts", "bytes")


def measure(name: str, layers: list[list[Any]], graph: Path, size: int, threads: int, runs: int) -> dict[str, Any]:
    """A row of the results: the operators of a graph's plan, each with its median time of `runs` runs at batch 1.

    Args:
        name: of the network.
        layers: its modules and their multiply-adds, in the graph's order.
        graph: model.sparse.onnx.
        size: side of the images.
        threads: of the engine's own pool.
        runs: timed ones, after five untimed.

    Raises:
        UnavailableError: the engine does not run it as one plan of the same products.
    """
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    spec = {"graph": str(graph), "size": size, "threads": threads, "runs": runs}
    operators = ask("engine_layers", spec)
    products = [operator for operator in operators if "macs" in operator]
    if len(products) != len(layers):
        raise UnavailableError(f"the plan has {len(products)} products, the graph {len(layers)}")
    for operator, (module, macs) in zip(products, layers, strict=True):
        if operator["macs"] != macs:
            raise UnavailableError(f"operator {operator['number']} has {operator['macs']} MACs, {module} has {macs}")
        operator["module"] = module
    return {"kind": "layers", "network": name, "threads": threads, "runs": runs, "operators": operators}


def watch(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The measuring process's part."""
    import numpy as np

    from ntksap_export import engine
    from ntksap_export.engine.library import NativePlan
    from ntksap_export.graph import load_dense
    from ntksap_export.profiling.opening import pin

    pin(spec["threads"])
    plans = list(engine.plans(load_dense(Path(spec["graph"]))).values())
    if len(plans) != 1:
        raise UnavailableError(f"the engine has {len(plans)} plans of this graph; layers of one are timed")
    plan = NativePlan(plans[0])
    images = np.random.default_rng(0).standard_normal((1, 3, spec["size"], spec["size"]), dtype=np.float32)
    times: dict[int, list[float]] = {}
    facts: dict[int, dict[str, Any]] = {}
    for run in range(-5, spec["runs"]):
        plan.run([images], spec["threads"])
        for operator in json.loads(plan.describe())["operators"]:
            if run >= 0 and operator["images"] == 1:
                times.setdefault(operator["number"], []).append(operator["us"])
                facts[operator["number"]] = {key: operator[key] for key in SHAPE_KEYS if key in operator}
    return [{**facts[number], "us": median(times[number]), "times_us": times[number]} for number in facts]


def fma_peak(threads: int) -> tuple[float | None, str]:
    """GFLOP/s of the FMA units with so many threads, and how it was measured or why not."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        return None, "no C++ compiler to build fma_peak.cpp with"
    with tempfile.TemporaryDirectory() as folder:
        program, source = Path(folder) / "fma_peak", HERE / "fma_peak.cpp"
        flags = ["-O3", "-march=native", "-ffp-contract=fast", "-pthread"]
        subprocess.run([compiler, *flags, str(source), "-o", str(program)], check=True)
        said = subprocess.run([str(program), str(threads)], check=True, capture_output=True, text=True).stdout
    return float(said), "independent FMAs of registers (fma_peak.cpp, the best of 25 tries)"


if __name__ == "__main__":
    reply(watch)
