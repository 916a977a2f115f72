from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from ntksap_export import models
from ntksap_export.checkpoint import Provenance, SparseCheckpoint
from ntksap_export.errors import ExportError, FallbackError, UnavailableError
from ntksap_export.masks import Mask
from ntksap_export.profiling import worker
from ntksap_export.profiling.isolated import CellError, IsolatedCell

from .profiling_cases import children, tiny_spec, write_graph

pytestmark = pytest.mark.timeout(120)  # a process that hangs is a failure

RESNET = {"backend": "torch", "device": "cpu", "threads": 1, "batch": 2, "shape": [3, 32, 32]}


@pytest.fixture
def spec(tmp_path: Path) -> dict[str, Any]:
    return tiny_spec(tmp_path)


def test_a_graph_is_measured_in_a_process_of_its_own(spec: dict[str, Any]) -> None:
    before = len(children())

    with IsolatedCell(spec) as cell:
        alive = len(children())
        slices = [cell.run(0.001, 7), cell.run(1e-9, 2)]
        memory = cell.stop()["memory"]

    assert before + 1 == alive
    assert before == len(children())
    assert cell.ready["warmup_runs"] >= 3
    options = cell.ready["options"]
    assert ("onnxruntime", "cpu", 1, "all") == tuple(
        options[key] for key in ("backend", "device", "threads", "graph_optimization")
    )
    assert sorted(os.sched_getaffinity(0))[:1] == options["pinned_cpus"]
    assert len(slices[0]["times_ms"]) >= 7
    assert 2 == len(slices[1]["times_ms"])
    assert all(0 < milliseconds < 1000 for turn in slices for milliseconds in turn["times_ms"])
    assert all(sum(turn["times_ms"]) / 1e3 <= turn["wall_s"] < 60 for turn in slices)
    assert all({"cpu", "throttled", "energy"} <= turn.keys() for turn in slices)
    assert {
        "method",
        "baseline_rss_bytes",
        "load_delta_bytes",
        "run_peak_rss_bytes",
        "run_peak_delta_bytes",
        "settings",
    } == set(memory)
    assert {"arena": True, "memory_pattern": True} == memory["settings"]
    assert 10**6 < memory["baseline_rss_bytes"] < memory["run_peak_rss_bytes"] < 200 * 10**6
    assert memory["load_delta_bytes"] > 0


def test_peak_of_the_runs_holds_the_images(spec: dict[str, Any]) -> None:
    peaks = []
    for batch in (1, 2**18):  # 192 bytes an image
        with IsolatedCell({**spec, "batch": batch}) as cell:
            cell.run(1e-9, 1)
            peaks.append(cell.stop()["memory"]["run_peak_delta_bytes"])

    assert 192 * 2**18 <= peaks[1] - peaks[0] < 4 * 192 * 2**18


def test_threads_and_shape_are_as_told(spec: dict[str, Any]) -> None:
    write_graph(Path(spec["graph"]), inputs="float[batch, 3, h, w] images")
    cpus = sorted(os.sched_getaffinity(0))

    with IsolatedCell({**spec, "threads": len(cpus), "shape": [3, 6, 5]}) as cell:
        assert 1 == len(cell.run(1e-9, 1)["times_ms"])
    assert cpus == cell.ready["options"]["pinned_cpus"]
    assert len(cpus) == cell.ready["options"]["threads"]
    assert cpus == sorted(os.sched_getaffinity(0))


def test_torch_is_not_loaded_to_measure_onnxruntime(spec: dict[str, Any]) -> None:
    code = """
import sys
from ntksap_export.profiling import worker
worker.main()
print(sorted({"torch", "onnx", "onnxscript", "onnxruntime", "pydantic"} & set(sys.modules)))
"""
    orders = "".join(f"{json.dumps(order)}\n" for order in (spec, {"run": 1e-9, "at_least": 1}, {"stop": True}))

    done = subprocess.run(
        [sys.executable, "-c", code], input=orders, capture_output=True, text=True, check=True, timeout=60
    )

    ready, turn, memory, modules = done.stdout.splitlines()
    assert ["ready", "turn", "memory"] == [key for line in (ready, turn, memory) for key in json.loads(line)]
    assert "['onnxruntime']" == modules


def test_torch_model_runs_with_its_checkpoint(tmp_path: Path) -> None:
    model = models.build("resnet20", num_classes=4)
    path = tmp_path / "model.safetensors"
    SparseCheckpoint.of(model, Mask.dense(model), Provenance("resnet20", "none", 0, {}, {})).save(path)
    arguments = {"name": "resnet20", "num_classes": 4}

    with IsolatedCell({**RESNET, "model": arguments, "checkpoint": str(path)}) as cell:
        times = cell.run(1e-9, 3)["times_ms"]
    with pytest.raises(CellError, match="does not fit"):
        IsolatedCell({**RESNET, "model": {**arguments, "num_classes": 5}, "checkpoint": str(path)})

    assert 3 == len(times)
    assert ("torch", 1) == (cell.ready["options"]["backend"], cell.ready["options"]["threads"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": [2, 4, 4]}, "INVALID_ARGUMENT : Got invalid dimensions for input: images"),
        ({"shape": [3, 4]}, "Invalid rank for input: images"),
        ({"graph": "absent.onnx"}, "onnxruntime cannot load the graph: .*absent.onnx"),
        ({"device": "tpu"}, "tpu"),
        ({"threads": "many"}, "many|str"),
    ],
)
def test_what_cannot_run_is_an_error_with_its_reason(spec: dict[str, Any], change: dict[str, Any], words: str) -> None:
    before = len(children())

    with pytest.raises(CellError, match=words) as caught:
        IsolatedCell({**spec, **change})

    assert isinstance(caught.value, UnavailableError)
    assert 1 == len(str(caught.value).splitlines())
    assert before == len(children())


@pytest.mark.parametrize("content", [b"", b"garbage", None], ids=["empty", "garbage", "cut"])
def test_a_broken_graph_is_an_error_with_its_reason(spec: dict[str, Any], content: bytes | None) -> None:
    path = Path(spec["graph"])
    path.write_bytes(path.read_bytes()[:100] if content is None else content)

    with pytest.raises(CellError, match="onnxruntime cannot load the graph: "):
        IsolatedCell(spec)


@pytest.mark.parametrize(
    ("error", "said", "kind"),
    [
        (MemoryError("4 TiB"), "out of memory: 4 TiB", "memory"),
        (MemoryError(), "out of memory", "memory"),
        (UnavailableError("no CUDA device"), "no CUDA device", "other"),
        (FallbackError("4 threads", "openvino took 2"), "asked for 4 threads, openvino took 2", "fallback"),
        (RuntimeError("CUDA out of memory.\nTried to allocate"), "RuntimeError: CUDA out of memory.", "memory"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            "RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried",
            "memory",
        ),
        (
            ExportError("Failed to allocate memory for requested buffer"),
            "Failed to allocate memory for requested buffer",
            "memory",
        ),
        (RuntimeError(), "RuntimeError: ", "other"),
        (KeyError("graph"), "KeyError: 'graph'", "other"),
    ],
)
def test_every_failure_is_one_answer(
    error: Exception, said: str, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def serve(spec: Mapping[str, Any]) -> None:
        raise error

    monkeypatch.setattr(worker, "_serve", serve)
    monkeypatch.setattr(worker, "_end_with_parent", lambda: None)
    monkeypatch.setattr(sys, "stdin", io.StringIO("{}\n"))

    worker.main()

    assert [{"error": said, "kind": kind}] == [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_memory_of_a_process_is_its_own(spec: dict[str, Any]) -> None:
    block = b"1" * (300 * 10**6)

    with IsolatedCell(spec) as cell:
        cell.run(1e-9, 1)
        memory = cell.stop()["memory"]

    assert len(block) < psutil.Process().memory_info().rss
    assert memory["run_peak_rss_bytes"] < 200 * 10**6


@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_a_batch_that_does_not_fit_says_so(
    spec: dict[str, Any], backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\nulimit -v 12000000\nexec {sys.executable} "$@"\n')
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    if backend == "torch":
        spec = {**RESNET, "model": {"name": "resnet20", "num_classes": 4}, "checkpoint": None}

    with pytest.raises(CellError, match=rf"^batch {2**26} does not fit in memory \([\d.]+ GB were free\): ") as caught:
        IsolatedCell({**spec, "batch": 2**26})
    with IsolatedCell(spec) as cell:
        assert cell.run(1e-9, 1)["times_ms"]

    assert "memory" == caught.value.kind


def test_more_threads_than_cpus_is_a_fallback(spec: dict[str, Any]) -> None:
    cpus = len(os.sched_getaffinity(0))

    with pytest.raises(CellError) as caught:
        IsolatedCell({**spec, "threads": cpus + 1})

    assert f"asked for {cpus + 1} threads, this process may use {cpus} CPUs" == str(caught.value)
    assert "fallback" == caught.value.kind


def test_streams_run_at_once_and_server_answers(spec: dict[str, Any]) -> None:
    with IsolatedCell({**spec, "streams": 2}) as cell:
        turn = cell.run(0.01, 4)
        row = cell.serve(200.0, 0.2, 10.0, seed=1)

    assert len(turn["times_ms"]) >= 4
    assert sorted(os.sched_getaffinity(0))[:2] == cell.ready["options"]["pinned_cpus"]
    assert (200.0, 0, 1) == (row["rate"], row["unserved"], row["seed"])
    assert len(row["times_ms"]) == row["requests"] >= 5
    assert 0 < row["p50_ms"] <= row["p99_ms"] <= row["max_ms"]
