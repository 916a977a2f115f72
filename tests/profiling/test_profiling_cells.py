from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ntksap_export.profiling import profile as module
from ntksap_export.profiling.isolated import CellError
from ntksap_export.profiling.profile import Variant
from ntksap_export.profiling.statistics import MIN_TURNS

from .fake_cells import SHAPE, A, B, Log, run_profile
from .profiling_cases import write_graph


def _graphs(name: str, *precisions: str) -> list[Variant]:
    return [Variant(name, Path(f"{name}.{each}.onnx"), None, None, SHAPE, precision=each) for each in precisions]


def test_backends_and_precisions_of_one_load_take_turns_together(log: Log) -> None:
    rows = run_profile((A, *_graphs("b", "fp32", "int8")), backends=("onnxruntime", "torch"), batches=(1, 8))

    order = [name for name, what in log.events if what == "run"]
    assert ["a", "b.fp32", "b.int8", "torch"] * 2 * MIN_TURNS == order
    assert [("onnxruntime", 1), ("onnxruntime", 8), ("torch", 1), ("torch", 8)] == list(
        dict.fromkeys((row["backend"], row["batch"]) for row in rows)
    )


def test_each_is_compared_with_the_baseline_in_its_precision_else_in_fp32(log: Log) -> None:
    variants = (*_graphs("slim", "fp32", "int8", "fp16"), *_graphs("dense", "fp32", "int8"))

    rows = {(row["variant"], row["precision"]): row.get("ratio") for row in run_profile(variants)}

    assert {
        ("slim", "fp32"): ("dense", "fp32"),
        ("slim", "int8"): ("dense", "int8"),
        ("slim", "fp16"): ("dense", "fp32"),
        ("dense", "fp32"): None,
        ("dense", "int8"): ("dense", "fp32"),
    } == {key: ratio and (ratio["baseline"], ratio["precision"]) for key, ratio in rows.items()}


@pytest.mark.parametrize(("baseline", "compared"), [(None, ["b"]), ("a", ["b"]), ("b", ["a"]), ("absent", [])])
def test_the_baseline_can_be_named(log: Log, baseline: str | None, compared: list[str]) -> None:
    rows = run_profile((A, B), baseline=baseline)

    assert compared == [row["variant"] for row in rows if "ratio" in row]


def test_precisions_asked_for_are_measured_or_have_a_reason(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntksap_export.hardware.cpu_flags", lambda: {"avx512_bf16"})
    net = Variant("net", Path("net.onnx"), A.model, None, SHAPE)

    rows = run_profile(
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

    (emulated,) = run_profile((A,), backends=("torch",), precisions=("bf16",))
    (absent,) = run_profile((A,), precisions=("int8",))
    (lone,) = run_profile(_graphs("quantized", "int8"), precisions=("fp32",))

    assert "this CPU has no bf16 instructions" == emulated["reason"]
    assert "onnxruntime runs a float32 graph in float32 only; export with --int8" == absent["reason"]
    assert "there is no float32 network of 'quantized' to run so" == lone["reason"]


def test_a_fallback_is_marked(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def falls_back(spec: Mapping[str, Any]) -> None:
        raise CellError("asked for 4 threads, openvino took 2", "fallback")

    monkeypatch.setattr(module, "IsolatedCell", falls_back)

    (row,) = run_profile((A,))

    assert ("skipped", "asked for 4 threads, openvino took 2", True) == (row["status"], row["reason"], row["fallback"])


def test_images_that_cannot_fit_are_not_tried(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "free_bytes", lambda: 10**6)

    large, small = run_profile((A,), batches=(10**4, 1))

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

    rows = run_profile(variants)

    assert 3 == most
    assert ["one", "two", "three", "dense"] == [row["variant"] for row in rows]
    assert {"measured"} == {row["status"] for row in rows}
    assert ["dense"] * 3 == [row["ratio"]["baseline"] for row in rows if "ratio" in row]
    assert 2 == [Path(spec["graph"]).stem for spec in log.specs].count("dense.fp32")


def test_throughput_counts_what_all_streams_did(log: Log) -> None:
    (row,) = run_profile((A,), mode="throughput", streams=(2,), min_time_s=1.2)

    assert 2 == row["streams"]
    assert 2 * 12 / 1.2 == pytest.approx(row["throughput_images_per_s"])  # images of a batch * calls / seconds


def test_subnormal_weights_are_counted_in_the_graph(log: Log, tmp_path: Path) -> None:
    path = write_graph(tmp_path / "a.onnx", weights="{1e-40, 0, -1e-39, 2, 0, 3}")

    (row,) = run_profile((Variant("a", path, None, None, SHAPE),))

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

    a, b = run_profile((A, B), max_time_s=1.0)

    ratio = b["ratio"]
    assert b["latency_ms"]["p50"] / a["latency_ms"]["p50"] == ratio["value"] == pytest.approx(0.5)
    assert ratio["low"] <= ratio["value"] <= ratio["high"]


def test_a_baseline_without_the_precision_is_compared_with_in_fp32(log: Log) -> None:
    variants = (*_graphs("slim", "fp32", "int8"), *_graphs("dense", "fp32"))

    rows = run_profile(variants, precisions=("int8", "fp32"))

    found = {(row["variant"], row["precision"]): row.get("ratio", {}).get("precision") for row in rows}
    assert {
        ("slim", "int8"): "fp32",
        ("slim", "fp32"): "fp32",
        ("dense", "int8"): None,
        ("dense", "fp32"): None,
    } == found


ENGINE = Variant("engine", Path("b.sparse.onnx"), None, None, SHAPE, engine=True)


def test_the_engines_graph_is_measured_in_onnxruntime_on_the_cpu_alone(log: Log) -> None:
    rows = run_profile((B, ENGINE), baseline="b", backends=("onnxruntime", "torch", "openvino"))

    assert [("onnxruntime", "b")] == [
        (row["backend"], row["ratio"]["baseline"]) for row in rows if row["variant"] == "engine"
    ]


@pytest.mark.parametrize("backend", ["torch", "tensorrt"])
def test_alone_elsewhere_it_says_why_not(log: Log, monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.setattr("ntksap_export.runtime.backends.unavailable", lambda *_: None)

    (row,) = run_profile((ENGINE,), backends=(backend,))

    reason = f"the sparse engine runs in onnxruntime on the CPU; {backend} on cpu takes model.onnx"
    assert ("skipped", reason) == (row["status"], row["reason"])


@pytest.mark.parametrize(("precisions", "names"), [(("fp32", "int8"), ["b", "b", "engine"]), (("int8",), ["b"])])
def test_it_has_a_row_where_float32_is_asked_for(log: Log, precisions: tuple[str, ...], names: list[str]) -> None:
    rows = run_profile((*_graphs("b", "fp32", "int8"), ENGINE), precisions=precisions)

    assert names == [row["variant"] for row in rows]
