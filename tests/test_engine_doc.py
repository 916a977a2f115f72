"""The tables of docs/engine.md and the README are those of benchmarks/results/engine.json; so is engine.txt."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "engine.json"
DOCS = ("docs/engine.md", "README.md")
MARK = re.compile(r"<!-- engine:(\w+) -->")
NAMES = ("targets", "full", "memory", "openvino", "layers")


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("engine_tables")


def cell(runtime: str, batch: int, ms: float, **more: Any) -> dict[str, Any]:
    return {
        "kind": "cell",
        "network": "resnet50-90",
        "runtime": runtime,
        "batch": batch,
        "status": "measured",
        "median_ms": ms,
        "median_ci_ms": [ms - 0.5, ms + 0.5],
        "runs": 12,
        "slices": 6,
        "noise": "steady",
        "load_ms": 100.0,
        "first_run_ms": 23.0,
        "memory": {"run_peak_rss_bytes": int(ms * 1e7)},
        **more,
    }


def ratios(plain: list[float], f32: list[float], bf16: list[float]) -> dict[str, list[float]]:
    return {"onnxruntime": plain, "openvino f32": f32, "openvino bf16": bf16}


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """A network that is 4 and 2 times as fast as onnxruntime, and slower than OpenVINO in bf16 at batch 16."""
    network = {
        "kind": "network",
        "network": "resnet50-90",
        "model": "resnet50",
        "size": 224,
        "mask": "uniform 90 %",
        "target": [3.5, 4.0],
        "density": 0.1,
        "flop_density": 0.1,
        "left": ["node a (Softmax): it is no layer"],
        "file_bytes": {"onnxruntime": 102_000_000, "engine": 15_500_000},
        "errors": {"engine": 2e-6, "openvino f32": 3e-6, "openvino bf16": 0.004},
    }
    shared = {"input": [3, 8, 8], "output": [4, 8, 8], "us": 500.0}
    conv = {**shared, "number": 0, "kind": "conv", "kernel": "sparse, tiles", "density": 0.1, "macs": 10_000_000}
    return [
        {"kind": "setup", "isa": "avx2", "abi": 1, "cpu_isa": ["avx2", "amx_bf16"], "threads": 2, "seconds": 5},
        {"kind": "machine", "threads": 2, "fma_gflops": 400.0, "fma_method": "a loop", "matmul_gflops": 390.0},
        network,
        cell("onnxruntime", 1, 20.0),
        cell("engine", 1, 5.0, ratios=ratios([0.25, 0.2, 0.5], [0.5, 0.4, 0.6], [0.8, 0.7, 1.1])),
        cell("openvino f32", 1, 10.0),
        cell("openvino bf16", 1, 6.0),
        cell("onnxruntime", 16, 300.0, noise="noisy: the neighbours were loud"),
        cell("engine", 16, 150.0, ratios=ratios([0.5, 0.4, 0.6], [0.5, 0.4, 0.6], [1.25, 1.1, 1.3])),
        cell("openvino f32", 16, 300.0),
        {"kind": "cell", "network": "resnet50-90", "runtime": "openvino bf16", "batch": 16, "status": "skipped"}
        | {"reason": "no bf16 here"},
        {"kind": "layers", "network": "resnet50-90", "threads": 2, "runs": 30, "operators": [
            {**conv, "module": "layer1.0.conv1"},
            {**conv, "module": "layer1.0.conv2", "us": 1500.0, "kernel": "dense, tiles"},
            {**shared, "number": 2, "kind": "pool"},
        ]},
    ]  # fmt: skip


def fields(table: str) -> list[list[str]]:
    """The lines of a table, without the one below the heads."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[field.strip() for field in line.strip("|").split("|")] for line in [lines[0], *lines[2:]]]


@pytest.mark.parametrize("document", DOCS)
def test_the_tables_of_the_docs_are_those_of_the_results(document: str, tables: ModuleType) -> None:
    path = ROOT / document
    text = path.read_text() if path.is_file() else ""
    if not MARK.search(text):
        pytest.skip(f"{document} has no mark of the kind <!-- engine:NAME -->")
    if not RESULTS.is_file():
        pytest.skip("benchmarks/results/engine.json is not there yet")

    assert set(MARK.findall(text)) <= set(NAMES)
    closed = tables.marked.marks("engine").findall(text)
    assert len(MARK.findall(text)) == len(closed), "a mark is not closed by <!-- /engine -->"
    assert text == tables.fill(text, json.loads(RESULTS.read_text())["rows"]), (
        f"{document}: run `python benchmarks/engine.py --write-docs`"
    )


def test_the_text_is_that_of_the_raw_data(tables: ModuleType) -> None:
    if not RESULTS.is_file():
        pytest.skip("benchmarks/results/engine.json is not there yet")
    _, _, text = RESULTS.with_suffix(".txt").read_text().partition("\n\n")

    assert text == tables.text(json.loads(RESULTS.read_text())["rows"]) + "\n"


def test_the_targets_stand_beside_what_was_reached(tables: ModuleType, rows: list[dict[str, Any]]) -> None:
    found = fields(tables.targets(rows))

    assert [
        ["mask", "FLOPs left", "batch 1", "target", "batch 16", "target"],
        ["uniform 90 %", "10 %", "4.00x (2.00 to 5.00)", "3.5x, met", "2.00x (1.67 to 2.50)", "4.0x, not met"],
    ] == found


def test_the_full_table_counts_noisy_cells_and_names_what_the_engine_leaves(
    tables: ModuleType, rows: list[dict[str, Any]]
) -> None:
    rendered = tables.full(rows)
    found = fields(rendered)[1]

    assert ["resnet50 224", "uniform 90 %", "10 %", "10 %", "1", "20 ±0.5", "5 ±0.5"] == found[:7]
    assert ["4.00x (2.00 to 5.00)", "2e-06"] == found[7:]
    assert "1 of 7 cells are noisy" in rendered
    assert "- resnet50 224, uniform 90 %: onnxruntime keeps node a (Softmax): it is no layer" in rendered


def test_memory_and_the_time_to_get_ready(tables: ModuleType, rows: list[dict[str, Any]]) -> None:
    found = [line[2:] for line in fields(tables.memory(rows).replace("\n\n", "\n"))]

    assert ["1", "200", "50", "100", "60", "0.25x"] == found[1]
    assert ["16", "3000", "1500", "3000", "-", "0.50x"] == found[2]
    assert ["16", "102", "16", "123", "123", "123", "-"] == found[-1]


def test_the_words_on_openvino_follow_the_intervals(tables: ModuleType, rows: list[dict[str, Any]]) -> None:
    rows[-2] = cell("openvino bf16", 16, 120.0)

    words = tables.in_words(rows).splitlines()

    network = "resnet50 224, uniform 90 %"
    assert [
        f"- Batch 1, against openvino f32: the engine is faster on {network} (2.00x).",
        f"- Batch 16, against openvino f32: the engine is faster on {network} (2.00x).",
        f"- Batch 1, against openvino bf16: the engine is level on {network} (1.25x).",
        f"- Batch 16, against openvino bf16: the engine is slower, so that openvino bf16 is to be taken, on {network} "
        "(0.80x).",
        "- bf16 runs on AMX on this CPU; its logits are off by the error in the table.",
    ] == words


def test_layers_are_summed_by_stage(tables: ModuleType, rows: list[dict[str, Any]]) -> None:
    rendered = tables.layers(rows)
    _, layer1, other, whole = fields(rendered)

    # 20 million multiply-adds, two operations each, in 2 ms are 20 GFLOP/s, of 400
    assert ["layer1", "2", "10 %", "20.0", "2.000", "80 %", "20", "5 %"] == layer1[:8]
    assert ["1 sparse, 1 dense", "layer1.0.conv2, 3 %"] == layer1[8:]
    assert ["other", "1", "-", "-", "0.500", "20 %"] == other[:6]
    assert ["all", "2", "10 %", "20.0", "2.500", "100 %"] == whole[:6]
    assert "Shares are of 400 GFLOP/s" in rendered


def test_doubts_are_named(tables: ModuleType, rows: list[dict[str, Any]]) -> None:
    assert [
        "resnet50 224, uniform 90 % in onnxruntime, batch 16: noisy: the neighbours were loud",
        "resnet50 224, uniform 90 % in openvino bf16, batch 16: not measured: no bf16 here",
    ] == tables.noise(rows)


@pytest.mark.parametrize("name", NAMES)
def test_what_stands_between_the_marks_is_replaced(name: str, tables: ModuleType, rows: list[dict[str, Any]]) -> None:
    document = f"a\n<!-- engine:{name} -->\nold\n<!-- /engine -->\nb\n"

    filled = tables.fill(document, rows)

    table = tables.TABLES[name](rows)
    assert table
    assert f"a\n<!-- engine:{name} -->\n{table}\n<!-- /engine -->\nb\n" == filled
    assert filled == tables.fill(filled, rows)


def test_all_of_it_stands_in_the_text(tables: ModuleType, rows: list[dict[str, Any]]) -> None:
    text = tables.text(rows)

    assert all(tables.TABLES[name](rows) in text for name in NAMES)
    assert text.startswith("engine on avx2 (ABI 1), the CPU has avx2, amx_bf16; 2 threads; 7 cells")


def test_columns_line_up(tables: ModuleType, rows: list[dict[str, Any]]) -> None:
    lines = [line for name in NAMES for line in tables.TABLES[name](rows).splitlines() if line.startswith("|")]
    bars = {tuple(at for at, mark in enumerate(line) if mark == "|") for line in lines}

    assert 6 == len(bars)  # one for each table, two for memory
