"""The measuring process: `python -m ntksap_export.profiling.worker`, one cell, driven over standard input.

    <- {"backend": "onnxruntime", "device": "cpu", "threads": 2, "batch": 1, "graph": "...", ...}
    -> {"ready": {"warmup_runs": 42, "options": {...}}}
    <- {"run": 0.2, "at_least": 2}          as often as the parent likes: it interleaves several such processes
    -> {"times_ms": [...]}
    <- {"stop": true}
    -> {"memory": {...}}

A failure is one line {"error": "..."}. Nothing is imported that the cell does not need: memory is measured here.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ntksap_export.errors import NtksapError
from ntksap_export.profiling.measure import timed_runs, warm_up
from ntksap_export.profiling.memory import peak_rss_bytes, reset_peak, rss_bytes
from ntksap_export.runtime import backends
from ntksap_export.runtime.session import Session

if TYPE_CHECKING:
    from torch import nn


def main() -> None:
    """Serve one cell until told to stop or the parent is gone."""
    spec = json.loads(sys.stdin.readline())
    try:
        _serve(spec)
    except NtksapError as error:
        _answer({"error": str(error)})
    except MemoryError:
        _answer({"error": "out of memory"})
    except Exception as error:  # onnxruntime's own exception classes have no common public base
        _answer({"error": f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]})


def _serve(spec: dict[str, Any]) -> None:
    pinned = _pin(spec["threads"]) if spec["device"] == "cpu" else []
    with _no_answer():
        _import_backend(spec)
        baseline = rss_bytes()
        session, shape = _open(spec)
        loaded = rss_bytes()
        resettable = reset_peak()
        images = _images(session, spec["batch"], shape)
        call = session.bind(images)
        timed = _cuda_timed(call) if _is_model_on_cuda(spec) else None
        warmup = warm_up(call)
    _answer({"ready": {"warmup_runs": warmup, "options": {**session.options, "pinned_cpus": pinned}}})
    for line in sys.stdin:
        order = json.loads(line)
        if "stop" in order:
            break
        with _no_answer():
            call()  # whatever the other process left in the caches is not timed
            runs = timed or (lambda seconds, at_least: timed_runs(call, seconds, at_least=at_least))
            times = runs(order["run"], order["at_least"])
        _answer({"times_ms": times})
    peak = peak_rss_bytes()
    memory = {
        "method": "VmHWM, reset after loading" if resettable else "VmHWM since the start of the process",
        "baseline_rss_bytes": baseline,
        "load_delta_bytes": loaded - baseline,
        "run_peak_rss_bytes": peak,
        "run_peak_delta_bytes": peak - loaded,
    }
    _answer({"memory": {**memory, **_cuda_memory(spec)}})


def _images(session: Session, batch: int, shape: tuple[int, int, int]) -> npt.NDArray[Any]:
    """Noise as the network takes it; `shape` is (C, H, W)."""
    draw = np.random.default_rng(0)
    if getattr(session, "input_layout", "NCHW") == "NHWC":
        shape = (shape[1], shape[2], shape[0])
    if getattr(session, "input_dtype", "float32") == "uint8":
        return draw.integers(0, 256, (batch, *shape), dtype=np.uint8)
    return draw.standard_normal((batch, *shape), dtype=np.float32)


def _no_answer() -> contextlib.AbstractContextManager[object]:
    """Within it, what somebody's network prints goes to standard error."""
    return contextlib.redirect_stdout(sys.stderr)


def _pin(threads: int) -> list[int]:
    """Keep this process on as many CPUs as it has threads; which ones."""
    allowed = sorted(os.sched_getaffinity(0))
    if threads >= len(allowed):
        return allowed
    chosen = allowed[:threads]
    os.sched_setaffinity(0, chosen)
    return chosen


def _import_backend(spec: dict[str, Any]) -> None:
    backends.load(spec["backend"])
    if backends.takes_model(spec["backend"]):
        import ntksap_export.checkpoint  # noqa: F401
        from ntksap_export import networks

        if "sys_path" in spec:
            sys.path[:] = spec["sys_path"]
        networks.load(spec["model"]["name"])


def _open(spec: dict[str, Any]) -> tuple[Session, tuple[int, int, int]]:
    where = (spec["device"], spec["threads"])
    if backends.takes_model(spec["backend"]):
        return backends.open_model(spec["backend"], _model(spec), *where), tuple(spec["shape"])
    session = backends.open_graph(spec["backend"], Path(spec["graph"]), *where)
    return session, tuple(spec["shape"]) if spec.get("shape") else session.input_shape


def _model(spec: dict[str, Any]) -> nn.Module:
    from ntksap_export import networks
    from ntksap_export.checkpoint import SparseCheckpoint

    model = networks.build(**spec["model"])
    if spec.get("channels"):
        from ntksap_export.pruning import ChannelPlan

        model = ChannelPlan.from_json(json.loads(Path(spec["channels"]).read_text())).apply(model)
    if spec.get("checkpoint"):
        SparseCheckpoint.load(Path(spec["checkpoint"])).restore_(model)
    return model


def _is_model_on_cuda(spec: dict[str, Any]) -> bool:
    """Such a call returns before the work is done."""
    return backends.takes_model(spec["backend"]) and spec["device"] == "cuda"


def _cuda_timed(call: Callable[[], None]) -> Callable[[float, int], list[float]]:
    """Times by CUDA events around each call, read after a synchronize; copies to the device are not in them."""
    import time

    import torch

    torch.cuda.reset_peak_memory_stats()

    def runs(seconds: float, at_least: int) -> list[float]:
        times: list[float] = []
        start = time.perf_counter()
        while len(times) < at_least or time.perf_counter() - start < seconds:
            before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            before.record()
            call()
            after.record()
            torch.cuda.synchronize()
            times.append(before.elapsed_time(after))
        return times

    return runs


def _cuda_memory(spec: dict[str, Any]) -> dict[str, int]:
    if spec["device"] != "cuda":
        return {}
    import torch

    if not torch.cuda.is_available():
        return {}
    free, total = torch.cuda.mem_get_info()
    return {
        "peak_cuda_allocated_bytes": torch.cuda.max_memory_allocated(),
        "cuda_device_used_bytes": total - free,
    }


def _answer(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
