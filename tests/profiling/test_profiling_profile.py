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
from ntksap_export.profiling.profile import Variant, profile
from ntksap_export.profiling.settings import Settings, default_threads
from ntksap_export.profiling.statistics import MIN_TURNS

from .profiling_cases import write_graph

SHAPE = (3, 4, 4)
A = Variant("a", Path("a.onnx"), {"name": "resnet20", "num_classes": 4}, Path("a.safetensors"), SHAPE)
B = Variant("b", Path("b.onnx"), {"name": "resnet20", "num_classes": 4}, None, SHAPE)
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

        def run(self, seconds: float, at_least: int) -> dict[str, Any]:
            log.slices.append((seconds, at_least))
            self._event("run")
            times = [2.000001 if self._name == "a" else 4.0] * at_least
            return {"times_ms": times, "wall_s": seconds}

        def stop(self) -> dict[str, Any]:
            self._event("memory")
            return {"memory": {"run_peak_rss_bytes": 7}}

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *details: object) -> None:
            log.open -= 1

    monkeypatch.setattr(module, "IsolatedCell", FakeCell)
    return log


def _profile(variants: Sequence[Variant], **changes: Any) -> list[dict[str, Any]]:
    cell = {"backends": ("onnxruntime",), "devices": ("cpu",), "batches": (2,), "threads": (1,)}
    talk = {key: changes.pop(key) for key in ("progress", "baseline") if key in changes}
    return profile(variants, Settings(**{**cell, **changes}), **talk)


def test_variants_take_turns(log: Log) -> None:
    _profile((A, B))

    assert [("a", "open"), ("b", "open")] == log.events[:2]
    assert ["a", "b"] * MIN_TURNS == [name for name, what in log.events if what == "run"]
    assert [("a", "memory"), ("b", "memory")] == log.events[-2:]
    assert 0 == log.open


def test_slices_add_up_to_the_time_and_the_least_number_of_runs(log: Log) -> None:
    _profile((A,), min_time_s=2.0)

    assert MIN_TURNS == len(log.slices)
    assert 2.0 == pytest.approx(sum(seconds for seconds, _ in log.slices))
    assert {2} == {at_least for _, at_least in log.slices}


def test_measured_row_says_all(log: Log) -> None:
    row, other = _profile((A, B), batches=(4,))

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

    rows = {row["variant"]: row for row in _profile((A, B))}

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

    (row,) = _profile((A,), devices=("cuda",))

    assert "skipped" == row["status"]
    assert "no CUDAExecutionProvider; install onnxruntime-gpu" in row["reason"]


def test_on_cuda_only_the_first_number_of_threads_counts(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    rows = _profile((A,), backends=("torch",), devices=("cuda",), batches=(1, 8), threads=(2, 1))

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

    _profile((A, B), batches=(1, 8), progress=Recorder())

    assert "profile 4" == steps[0]
    assert [("cpu, batch 1, 1 threads", 2), ("cpu, batch 8, 1 threads", 2)] == [step for step in steps[1:] if step[1]]


def test_default_threads_are_the_cpus_of_this_process() -> None:
    assert (len(os.sched_getaffinity(0)),) == default_threads()


def _graphs(name: str, *precisions: str) -> list[Variant]:
    return [Variant(name, Path(f"{name}.{each}.onnx"), None, None, SHAPE, precision=each) for each in precisions]


def test_backends_and_precisions_of_one_load_take_turns_together(log: Log) -> None:
    rows = _profile((A, *_graphs("b", "fp32", "int8")), backends=("onnxruntime", "torch"), batches=(1, 8))

    order = [name for name, what in log.events if what == "run"]
    assert ["a", "b.fp32", "b.int8", "torch"] * 2 * MIN_TURNS == order
    assert [("onnxruntime", 1), ("onnxruntime", 8), ("torch", 1), ("torch", 8)] == list(
        dict.fromkeys((row["backend"], row["batch"]) for row in rows)
    )


def test_each_is_compared_with_the_baseline_in_its_precision_else_in_fp32(log: Log) -> None:
    variants = (*_graphs("slim", "fp32", "int8", "fp16"), *_graphs("dense", "fp32", "int8"))

    rows = {(row["variant"], row["precision"]): row.get("ratio") for row in _profile(variants)}

    assert {
        ("slim", "fp32"): ("dense", "fp32"),
        ("slim", "int8"): ("dense", "int8"),
        ("slim", "fp16"): ("dense", "fp32"),
        ("dense", "fp32"): None,
        ("dense", "int8"): ("dense", "fp32"),
    } == {key: ratio and (ratio["baseline"], ratio["precision"]) for key, ratio in rows.items()}


@pytest.mark.parametrize(("baseline", "compared"), [(None, ["b"]), ("a", ["b"]), ("b", ["a"]), ("absent", [])])
def test_the_baseline_can_be_named(log: Log, baseline: str | None, compared: list[str]) -> None:
    rows = _profile((A, B), baseline=baseline)

    assert compared == [row["variant"] for row in rows if "ratio" in row]


def test_precisions_asked_for_are_measured_or_have_a_reason(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntksap_export.hardware.cpu_flags", lambda: {"avx512_bf16"})
    net = Variant("net", Path("net.onnx"), A.model, None, SHAPE)

    rows = _profile(
        (net, *_graphs("net", "int8")), backends=("onnxruntime", "torch"), precisions=("fp32", "bf16", "int8")
    )

    assert {
        ("onnxruntime", "fp32"): None,
        ("onnxruntime", "bf16"): "onnxruntime runs a float32 graph in float32 only",
        ("onnxruntime", "int8"): None,
        ("torch", "fp32"): None,
        ("torch", "bf16"): None,
        ("torch", "int8"): "torch runs the float32 model; int8 is a graph's",
    } == {(row["backend"], row["precision"]): row["reason"] for row in rows}
    assert ["fp32", "int8", "fp32", "bf16"] == [spec["precision"] for spec in log.specs]


def test_a_cpu_without_bf16_and_a_missing_graph_are_reasons(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntksap_export.hardware.cpu_flags", lambda: {"avx2"})

    (emulated,) = _profile((A,), backends=("torch",), precisions=("bf16",))
    (absent,) = _profile((A,), precisions=("int8",))
    (lone,) = _profile(_graphs("quantized", "int8"), precisions=("fp32",))

    assert "this CPU has no bf16 instructions" == emulated["reason"]
    assert "onnxruntime runs a float32 graph in float32 only; export with --int8" == absent["reason"]
    assert "there is no float32 network of 'quantized' to run so" == lone["reason"]


def test_a_fallback_is_marked(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def falls_back(spec: Mapping[str, Any]) -> None:
        raise CellError("asked for 4 threads, openvino took 2", "fallback")

    monkeypatch.setattr(module, "IsolatedCell", falls_back)

    (row,) = _profile((A,))

    assert ("skipped", "asked for 4 threads, openvino took 2", True) == (row["status"], row["reason"], row["fallback"])


def test_images_that_cannot_fit_are_not_tried(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "free_bytes", lambda: 10**6)

    large, small = _profile((A,), batches=(10**4, 1))

    assert "batch 10000 does not fit in memory: its images alone take 0.0 GB, 0.0 GB are free" == large["reason"]
    assert "measured" == small["status"]
    assert [1] == [spec["batch"] for spec in log.specs]


def test_processes_stand_side_by_side_as_far_as_memory_goes(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    # an onnxruntime process is reckoned with 200 MB: three of them, one of which is the baseline, fit in 800 MB
    monkeypatch.setattr(module, "free_bytes", lambda: 800 * 10**6)
    variants = (*_graphs("one", "fp32"), *_graphs("two", "fp32"), *_graphs("three", "fp32"), *_graphs("dense", "fp32"))
    most = 0
    opened = module.IsolatedCell

    class Counted(opened):  # type: ignore[misc, valid-type]
        def run(self, seconds: float, at_least: int) -> dict[str, Any]:
            nonlocal most
            most = max(most, log.open)
            return super().run(seconds, at_least)

    monkeypatch.setattr(module, "IsolatedCell", Counted)

    rows = _profile(variants)

    assert 3 == most
    assert ["one", "two", "three", "dense"] == [row["variant"] for row in rows]
    assert {"measured"} == {row["status"] for row in rows}
    assert ["dense"] * 3 == [row["ratio"]["baseline"] for row in rows if "ratio" in row]
    assert 2 == [Path(spec["graph"]).stem for spec in log.specs].count("dense.fp32")


def test_throughput_counts_what_all_streams_did(log: Log) -> None:
    (row,) = _profile((A,), mode="throughput", streams=(2,), min_time_s=1.2)

    assert 2 == row["streams"]
    assert 2 * 12 / 1.2 == pytest.approx(row["throughput_images_per_s"])  # images of a batch * calls / seconds


def test_subnormal_weights_are_counted_in_the_graph(log: Log, tmp_path: Path) -> None:
    path = write_graph(tmp_path / "a.onnx", weights="{1e-40, 0, -1e-39, 2, 0, 3}")

    (row,) = _profile((Variant("a", path, None, None, SHAPE),))

    assert 2 == row["noise_facts"]["subnormals"]
    assert "noisy: 2 subnormal numbers" in row["noise"]
    assert path.stat().st_size == row["file_bytes"]


def test_the_ratio_is_that_of_the_p50_shown(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    # few slow runs in four turns of six, many fast ones in two: the median run is fast, the median turn slow
    turns = iter([[8.0], [8.0], [8.0], [8.0], [1.0] * 9, [1.0] * 9])
    opened: Any = module.IsolatedCell

    class Uneven(opened):  # type: ignore[misc, valid-type]
        def run(self, seconds: float, at_least: int) -> dict[str, Any]:
            told: dict[str, Any] = super().run(seconds, at_least)
            return {**told, "times_ms": next(turns)} if self._name == "b" else told

    monkeypatch.setattr(module, "IsolatedCell", Uneven)

    a, b = _profile((A, B), max_time_s=1.0)

    ratio = b["ratio"]
    assert b["latency_ms"]["p50"] / a["latency_ms"]["p50"] == ratio["value"] == pytest.approx(0.5)
    assert ratio["low"] <= ratio["value"] <= ratio["high"]
