from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
import torch

from ntksap_export.profiling import profile as module
from ntksap_export.profiling.isolated import CellError
from ntksap_export.profiling.measure import MIN_RUNS
from ntksap_export.profiling.profile import SLICES, Variant, profile
from ntksap_export.profiling.settings import Settings, default_threads

SHAPE = (3, 4, 4)
A = Variant("a", Path("a.onnx"), {"name": "resnet20", "num_classes": 4}, Path("a.safetensors"), SHAPE)
B = Variant("b", Path("b.onnx"), {"name": "resnet20", "num_classes": 4}, None, SHAPE)
MEASURED = {
    "variant",
    "backend",
    "device",
    "precision",
    "batch",
    "threads",
    "status",
    "reason",
    "latency_ms",
    "throughput_images_per_s",
    "runs",
    "noise",
    "memory",
    "times_ms",
    "warmup_runs",
    "options",
}


class Log:
    """What was asked of all cells, and which of them fail where."""

    def __init__(self) -> None:
        self.specs: list[dict[str, Any]] = []
        self.events: list[tuple[str, str]] = []
        self.slices: list[tuple[float, int]] = []
        self.broken: dict[tuple[str, str], str] = {}
        self.too_large = 10**9
        self.open = 0


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()

    class FakeCell:
        """Stands for a process; a takes 2 ms, b takes 4 ms."""

        def __init__(self, spec: Mapping[str, Any]) -> None:
            json.dumps(spec)
            log.specs.append(dict(spec))
            self._name = Path(spec["graph"]).stem if "graph" in spec else "torch"
            self._event("open")
            if spec["batch"] >= log.too_large:
                raise CellError("out of memory")
            self.ready = {"warmup_runs": 5, "options": {"backend": spec["backend"]}}
            log.open += 1

        def _event(self, what: str) -> None:
            log.events.append((self._name, what))
            if reason := log.broken.get((self._name, what)):
                raise CellError(reason)

        def run(self, seconds: float, at_least: int) -> list[float]:
            log.slices.append((seconds, at_least))
            self._event("run")
            return [2.00001 if self._name == "a" else 4.0] * at_least

        def memory(self) -> dict[str, Any]:
            self._event("memory")
            return {"run_peak_rss_bytes": 7}

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *details: object) -> None:
            log.open -= 1

    monkeypatch.setattr(module, "IsolatedCell", FakeCell)
    return log


def _profile(variants: Sequence[Variant], **changes: Any) -> list[dict[str, Any]]:
    cell = {"backends": ("onnxruntime",), "devices": ("cpu",), "batches": (2,), "threads": (1,)}
    progress = changes.pop("progress", None)
    return profile(variants, Settings(**{**cell, **changes}), progress=progress)


def test_variants_take_turns(log: Log) -> None:
    _profile((A, B))

    assert [("a", "open"), ("b", "open")] == log.events[:2]
    assert ["a", "b"] * SLICES == [name for name, what in log.events if what == "run"]
    assert [("a", "memory"), ("b", "memory")] == log.events[-2:]
    assert 0 == log.open


def test_slices_add_up_to_the_time_and_the_least_number_of_runs(log: Log) -> None:
    _profile((A,), min_time_s=2.0)

    assert SLICES == len(log.slices)
    assert 2.0 == pytest.approx(sum(seconds for seconds, _ in log.slices))
    assert sum(at_least for _, at_least in log.slices) >= MIN_RUNS


def test_measured_row_says_all(log: Log) -> None:
    row, other = _profile((A, B), batches=(4,))

    assert MEASURED == set(row)
    assert {
        "variant": "a",
        "backend": "onnxruntime",
        "device": "cpu",
        "precision": "fp32",
        "batch": 4,
        "threads": 1,
        "status": "measured",
        "reason": None,
        "runs": 10,
        "warmup_runs": 5,
        "memory": {"run_peak_rss_bytes": 7},
        "options": {"backend": "onnxruntime"},
        "times_ms": [2.0] * 10,
        "noise": "steady, but p99 rests on 10 runs",
    } == {key: value for key, value in row.items() if key not in ("latency_ms", "throughput_images_per_s")}
    assert 4.0 == other["latency_ms"]["p50"]
    assert 1000.0 == other["throughput_images_per_s"]
    assert [row, other] == json.loads(json.dumps([row, other], allow_nan=False))


@pytest.mark.parametrize("phase", ["open", "run", "memory"])
@pytest.mark.parametrize("name", ["a", "b"])
def test_a_variant_that_fails_is_skipped_while_the_other_goes_on(log: Log, name: str, phase: str) -> None:
    log.broken = {(name, phase): "fell over"}

    rows = {row["variant"]: row for row in _profile((A, B))}

    failed, other = rows.pop(name), *rows.values()
    assert ("skipped", "fell over") == (failed["status"], failed["reason"])
    assert {"variant", "backend", "device", "precision", "batch", "threads", "status", "reason"} == set(failed)
    assert ("measured", 10) == (other["status"], other["runs"])
    assert [phase] == [what for variant, what in log.events if variant == name][-1:]
    assert 1 == log.events.count((name, phase))
    assert 0 == log.open


def test_a_batch_too_large_for_memory_is_skipped_and_the_next_goes_on(log: Log) -> None:
    log.too_large = 10**6

    rows = _profile((A, B), batches=(10**6, 1))

    assert [(10**6, "skipped", "out of memory")] * 2 + [(1, "measured", None)] * 2 == [
        (row["batch"], row["status"], row["reason"]) for row in rows
    ]


def test_cells_are_every_combination_and_each_measures_every_variant(log: Log) -> None:
    rows = _profile((A, B), backends=("onnxruntime", "torch"), batches=(1, 8), threads=(1, 2))

    assert [
        (name, backend, batch, threads)
        for backend in ("onnxruntime", "torch")
        for batch in (1, 8)
        for threads in (1, 2)
        for name in ("a", "b")
    ] == [(row["variant"], row["backend"], row["batch"], row["threads"]) for row in rows]


def test_processes_are_told_what_to_load(log: Log) -> None:
    _profile((A, B), backends=("onnxruntime", "torch"))

    common = {"device": "cpu", "batch": 2, "threads": 1, "shape": [3, 4, 4]}
    resnet = {"name": "resnet20", "num_classes": 4}
    assert [
        {**common, "backend": "onnxruntime", "graph": "a.onnx"},
        {**common, "backend": "onnxruntime", "graph": "b.onnx"},
        {**common, "backend": "torch", "model": resnet, "checkpoint": "a.safetensors", "channels": None},
        {**common, "backend": "torch", "model": resnet, "checkpoint": None, "channels": None},
    ] == log.specs


def test_variant_without_model_or_graph_is_skipped_with_advice(log: Log) -> None:
    bare = Variant("bare", None, A.model, None, SHAPE)
    foreign = Variant("foreign", Path("a.onnx"), None, None, None)

    rows = _profile((bare, foreign), backends=("onnxruntime", "torch"))

    assert [
        ("bare", "onnxruntime", "skipped", "there is no ONNX graph; run `ntksap export` first"),
        ("foreign", "onnxruntime", "measured", None),
        ("bare", "torch", "measured", None),
        ("foreign", "torch", "skipped", "an ONNX file has no torch model; profile the run directory instead"),
    ] == [(row["variant"], row["backend"], row["status"], row["reason"]) for row in rows]
    assert log.specs[0]["shape"] is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_each_variant_and_backend_has_one_row_that_says_so(log: Log) -> None:
    rows = _profile((A, B), backends=("onnxruntime", "torch"), devices=("cuda", "cpu"), batches=(1, 8), threads=(1, 2))

    missing = [row for row in rows if row["device"] == "cuda"]
    assert [
        {
            "variant": name,
            "precision": "fp32",
            "backend": backend,
            "device": "cuda",
            "batch": None,
            "threads": None,
            "status": "skipped",
            "reason": "no CUDA device",
        }
        for backend in ("onnxruntime", "torch")
        for name in ("a", "b")
    ] == missing
    assert {"measured"} == {row["status"] for row in rows if row["device"] == "cpu"}


def test_onnxruntime_without_cuda_says_so_even_beside_a_gpu(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        "ntksap_export.runtime.ort.onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"]
    )

    (row,) = _profile((A,), devices=("cuda",))

    assert "skipped" == row["status"]
    assert "no CUDAExecutionProvider; install onnxruntime-gpu" in row["reason"]


def test_on_cuda_only_the_first_number_of_threads_counts(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    rows = _profile((A,), backends=("torch",), devices=("cuda",), batches=(1, 8), threads=(2, 1))

    assert [("cuda", 1, 2), ("cuda", 8, 2)] == [(row["device"], row["batch"], row["threads"]) for row in rows]


def test_progress_has_one_step_per_cell(log: Log) -> None:
    steps: list[str] = []

    class Task:
        def advance(self, steps_done: int = 1, note: str = "") -> None:
            steps.append(note)

    class Recorder:
        def say(self, message: str) -> None: ...

        @contextmanager
        def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
            steps.append(f"{name} {total}")
            yield Task()

    _profile((A, B), batches=(1, 8), progress=Recorder())

    assert ["profile 2", "onnxruntime cpu 1 1", "onnxruntime cpu 8 1"] == steps


def test_default_threads_are_the_cpus_of_this_process() -> None:
    assert (len(os.sched_getaffinity(0)),) == default_threads()
