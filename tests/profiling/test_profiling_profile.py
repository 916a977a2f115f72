from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from ntksap_export.profiling.profile import Variant
from ntksap_export.profiling.settings import default_threads
from ntksap_export.profiling.statistics import MIN_TURNS
from ntksap_export.profiling.turns import Turns

from .fake_cells import SHAPE, A, B, Log, run_profile

HEAD = {"variant", "backend", "device", "precision", "batch", "threads", "streams", "status", "reason"}
MEASURED = {
    *HEAD,
    "latency_ms",
    "median_ci_ms",
    "ci_level",
    "throughput_images_per_s",
    "runs",
    "slices",
    "noise",
    "noise_facts",
    "memory",
    "file_bytes",
    "energy",
    "times_ms",
    "slice_of",
    "warmup_runs",
    "options",
}


def test_variants_take_turns(log: Log) -> None:
    run_profile((A, B))

    assert [("a", "open"), ("b", "open")] == log.events[:2]
    assert ["a", "b"] * MIN_TURNS == [name for name, what in log.events if what == "run"]
    assert [("a", "memory"), ("b", "memory")] == log.events[-2:]
    assert 0 == log.open


def test_slices_add_up_to_the_time_and_the_least_number_of_runs(log: Log) -> None:
    run_profile((A,), min_time_s=2.0)

    assert MIN_TURNS == len(log.slices)
    assert 2.0 == pytest.approx(sum(seconds for seconds, _ in log.slices))
    assert {2} == {at_least for _, at_least in log.slices}


def test_measured_row_says_all(log: Log) -> None:
    row, other = run_profile((A, B), batches=(4,))

    assert {*MEASURED, "ratio"} == set(other)
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
        "streams": 1,
        "runs": 12,
        "slices": 6,
        "warmup_runs": 5,
        "memory": {"run_peak_rss_bytes": 7},
        "options": {"backend": "onnxruntime", "between_turns": "SIGSTOP", "side_by_side": 2},
        "times_ms": [2.0] * 12,
        "slice_of": [turn for turn in range(6) for _ in range(2)],
        "median_ci_ms": [2.000001, 2.000001],
        "ci_level": 0.95,
        "file_bytes": None,
        "energy": {"skipped": "not measured"},
        "noise": "steady, but p95 rests on 12 runs",
        "noise_facts": {
            "iqr_over_median": 0.0,
            "drift": 0.0,
            "throttled": None,
            "throttle_events": {},
            "clock_mhz": None,
            "other_load": None,
            "steal": None,
            "subnormals": None,
        },
    } == {key: value for key, value in row.items() if key not in ("latency_ms", "throughput_images_per_s")}
    ratio = other["ratio"]
    assert ("a", "fp32") == (ratio["baseline"], ratio["precision"])
    assert [2.0] * 3 == pytest.approx([ratio[key] for key in ("low", "value", "high")], rel=1e-5)
    assert 4.0 == other["latency_ms"]["p50"]
    assert 1000.0 == other["throughput_images_per_s"]
    assert [row, other] == json.loads(json.dumps([row, other], allow_nan=False))


@pytest.mark.parametrize("phase", ["open", "run", "memory"])
@pytest.mark.parametrize("name", ["a", "b"])
def test_a_variant_that_fails_is_skipped_while_the_other_goes_on(log: Log, name: str, phase: str) -> None:
    log.broken = {(name, phase): "fell over"}

    rows = {row["variant"]: row for row in run_profile((A, B))}

    failed, other = rows.pop(name), *rows.values()
    assert ("skipped", "fell over") == (failed["status"], failed["reason"])
    assert HEAD == set(failed)
    assert "ratio" not in other
    assert ("measured", 12) == (other["status"], other["runs"])
    assert [phase] == [what for variant, what in log.events if variant == name][-1:]
    assert 1 == log.events.count((name, phase))
    assert 0 == log.open


def test_a_batch_too_large_for_memory_is_skipped_and_the_next_goes_on(log: Log) -> None:
    log.too_large = 10**6

    rows = run_profile((A, B), batches=(10**6, 1))

    assert [(10**6, "skipped", "out of memory")] * 2 + [(1, "measured", None)] * 2 == [
        (row["batch"], row["status"], row["reason"]) for row in rows
    ]


def test_cells_are_every_combination_and_each_measures_every_variant(log: Log) -> None:
    rows = run_profile((A, B), backends=("onnxruntime", "torch"), batches=(1, 8), threads=(1, 2))

    assert [
        (name, backend, batch, threads)
        for backend in ("onnxruntime", "torch")
        for batch in (1, 8)
        for threads in (1, 2)
        for name in ("a", "b")
    ] == [(row["variant"], row["backend"], row["batch"], row["threads"]) for row in rows]


def test_processes_are_told_what_to_load(log: Log) -> None:
    run_profile((A, B), backends=("onnxruntime", "torch"))

    common = {
        "device": "cpu",
        "batch": 2,
        "threads": 1,
        "streams": 1,
        "precision": "fp32",
        "shape": [3, 4, 4],
        "warmup_s": 0.3,
    }
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

    rows = run_profile((bare, foreign), backends=("onnxruntime", "torch"))

    assert [
        ("bare", "onnxruntime", "skipped", "there is no ONNX graph; run `ntksap export` first"),
        ("foreign", "onnxruntime", "measured", None),
        ("bare", "torch", "measured", None),
        ("foreign", "torch", "skipped", "an ONNX file has no torch model; profile the run directory instead"),
    ] == [(row["variant"], row["backend"], row["status"], row["reason"]) for row in rows]
    assert log.specs[0]["shape"] is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_each_variant_and_backend_has_one_row_that_says_so(log: Log) -> None:
    rows = run_profile(
        (A, B), backends=("onnxruntime", "torch"), devices=("cuda", "cpu"), batches=(1, 8), threads=(1, 2)
    )

    missing = [row for row in rows if row["device"] == "cuda"]
    assert [
        {
            "variant": name,
            "precision": "fp32",
            "backend": backend,
            "device": "cuda",
            "batch": None,
            "threads": None,
            "streams": None,
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

    (row,) = run_profile((A,), devices=("cuda",))

    assert "skipped" == row["status"]
    assert "no CUDAExecutionProvider; install onnxruntime-gpu" in row["reason"]


def test_on_cuda_only_the_first_number_of_threads_counts(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    rows = run_profile((A,), backends=("torch",), devices=("cuda",), batches=(1, 8), threads=(2, 1))

    assert [("cuda", 1, 2), ("cuda", 8, 2)] == [(row["device"], row["batch"], row["threads"]) for row in rows]


def test_progress_has_one_step_per_cell(log: Log) -> None:
    steps: list[Any] = []

    class Task:
        def advance(self, steps_done: int = 1, note: str = "") -> None:
            steps.append((note, steps_done))

    class Recorder:
        def say(self, message: str) -> None: ...

        @contextmanager
        def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
            steps.append(f"{name} {total}")
            yield Task()

    run_profile((A, B), batches=(1, 8), progress=Recorder())

    assert "profile 4" == steps[0]
    assert [("cpu, batch 1, 1 thread", 2), ("cpu, batch 8, 1 thread", 2)] == [step for step in steps[1:] if step[1]]


def test_default_threads_are_the_cpus_of_this_process() -> None:
    assert (len(os.sched_getaffinity(0)),) == default_threads()


def test_a_cell_goes_on_until_its_baseline_is_known(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Turns.known
    monkeypatch.setattr(  # the baseline, 2 ms, takes two turns more than it takes to know the other
        Turns,
        "known",
        lambda self, settings: known(self, settings) and (self.times_ms[0] > 3 or len(self.medians) >= 8),
    )

    baseline, other = run_profile((A, B))

    assert 8 == baseline["slices"]
    assert 8 == other["slices"]
