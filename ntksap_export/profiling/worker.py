"""The measuring process: `python -m ntksap_export.profiling.worker`, one cell, driven over standard input.

    <- {"backend": "onnxruntime", "device": "cpu", "threads": 2, "streams": 1, "batch": 1, "graph": "...", ...}
    -> {"ready": {"warmup_runs": 42, "options": {...}, ...}}
    <- {"run": 0.2, "at_least": 2}          as often as the parent likes: it interleaves several such processes
    -> {"turn": {"times_ms": [...], "wall_s": 0.2, "cpu": {...}, "throttled": {...}, "energy": {...}}}
    <- {"serve": 100.0, "seconds": 2, "patience_s": 4, "seed": 0}
    -> {"served": {"rate": 100.0, "p99_ms": ..., ...}}
    <- {"stop": true}
    -> {"memory": {...}, "gpu": {...}}

A failure is one line {"error": "...", "kind": "fallback" | "memory" | "other"}. Nothing is imported that the cell does
not need: memory is measured here.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy.typing as npt

from ntksap_export.errors import FallbackError, NtksapError
from ntksap_export.profiling import cuda, opening
from ntksap_export.profiling.bench import Bench
from ntksap_export.profiling.memory import peak_rss_bytes, reset_peak, rss_bytes
from ntksap_export.runtime import backends

_FULL = re.compile(r"out of memory|can't allocate|failed to allocate|bad_alloc|not enough memory|bad allocation", re.I)
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def main() -> None:
    """Serve one cell until told to stop or the parent is gone."""
    _end_with_parent()
    spec = json.loads(sys.stdin.readline())
    try:
        _serve(spec)
    except FallbackError as error:
        _answer({"error": str(error), "kind": "fallback"})
    except MemoryError as error:
        _answer({"error": f"out of memory{f': {error}' if str(error) else ''}", "kind": "memory"})
    except Exception as error:  # onnxruntime's own exception classes have no common public base
        said = str(error) if isinstance(error, NtksapError) else f"{type(error).__name__}: {str(error).strip()}"
        _answer({"error": said.splitlines()[0], "kind": "memory" if _FULL.search(str(error)) else "other"})


def _serve(spec: dict[str, Any]) -> None:
    cpus = opening.pin(spec["threads"], spec.get("streams", 1)) if spec["device"] == "cpu" else []
    with _no_answer():
        opening.import_backend(spec)
        baseline = rss_bytes()
        start = time.perf_counter()
        session, shape = opening.open_session(spec)
        load_ms = (time.perf_counter() - start) * 1e3
        loaded = rss_bytes()
        resettable = reset_peak()
        images = opening.draw_images(session, spec["batch"], shape)
        bench = Bench(spec, session, images, cpus)
        warmup = bench.warm_up()
    options = {**session.options, "pinned_cpus": cpus}
    took = {"load_ms": load_ms, "first_run_ms": bench.first_run_ms}
    _answer({"ready": {"warmup_runs": warmup.runs, "warmup_stable": warmup.stable, **took, "options": options}})
    if not _obey(bench):
        return
    peak = peak_rss_bytes()
    memory = {
        "method": "VmHWM, reset after loading" if resettable else "VmHWM since the start of the process",
        "baseline_rss_bytes": baseline,
        "load_delta_bytes": loaded - baseline,
        "run_peak_rss_bytes": peak,
        "run_peak_delta_bytes": peak - loaded,
        "settings": {key: options[key] for key in ("arena", "memory_pattern") if key in options},
    }
    _answer({"memory": memory, **_gpu(spec, bench, images, memory)})


def _obey(bench: Bench) -> bool:
    """Do what the parent says; False if it is gone without asking for the memory."""
    for line in sys.stdin:
        order = json.loads(line)
        if "stop" in order:
            return True
        with _no_answer():
            if "serve" in order:
                rate = order.pop("serve")
                answer = {"served": bench.serve(rate, **order)}
            else:
                answer = {"turn": bench.turn(order["run"], order["at_least"])}
        _answer(answer)
    return False


def _gpu(spec: dict[str, Any], bench: Bench, images: npt.NDArray[Any], memory: dict[str, Any]) -> dict[str, Any]:
    if spec["device"] != "cuda":
        return {}
    memory |= cuda.memory(backends.takes_model(spec["backend"]))  # before a copy is timed
    return {"gpu": bench.gpu(images)}


def _no_answer() -> contextlib.AbstractContextManager[object]:
    """Within it, what somebody's network prints goes to standard error."""
    return contextlib.redirect_stdout(sys.stderr)


def _end_with_parent() -> None:
    """A stopped process cannot read that its parent is gone; and of all, it is the one to go when memory is short."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _answer(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
