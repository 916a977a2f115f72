"""`ntksap profile --per-layer`, the whole way over a graph of a few hundred bytes and over a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ntksap_export.pipeline import run_stage
from ntksap_export.profiling import layers
from tests.profiling.profiling_cases import write_graph

pytestmark = pytest.mark.timeout(300)

Run = Callable[..., tuple[int, str, str]]
MACHINE = {"peak_gflops": {"1": 100.0}, "bandwidth_gb_s": {"1": 10.0}, "method": "by hand"}
QUICK = (
    *("--per-layer", "--backend", "onnxruntime", "--device", "cpu", "--batch", "2", "--threads", "1"),
    *("--min-time", "0.01", "--max-time", "0.01"),
)


@pytest.fixture(autouse=True)
def known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "measure_machine", lambda *_: MACHINE)


def test_a_table_by_module_follows_that_of_latencies(ntksap: Run, tmp_path: Path) -> None:
    out = tmp_path / "profile.json"

    code, said, _ = ntksap("profile", write_graph(tmp_path / "net.onnx"), *QUICK, "--out", out)

    assert code == 0
    _, table = said.split("\n\n", 1)
    assert table.startswith("onnxruntime on cpu, fp32, batch 2, 1 thread; this machine at its best: 100 GFLOP/s, 10 GB")
    assert "\nunattributed " in table
    assert "\nthe watched calls took longer than others by: " in table
    written = json.loads(out.read_text())
    assert written["machine"] == MACHINE
    assert [(row["variant"], row["status"]) for row in written["layers"]] == [
        ("sparse", "measured"),
        ("dense", "measured"),
    ]
    assert [sum(node["nonzero_macs"] for node in row["nodes"]) for row in written["layers"]] == [8, 12]


def test_a_run_keeps_its_node_times(ntksap: Run, finished_run: Path) -> None:
    run_stage("export", finished_run, {"passes": ["-drop_dead_channels"]})  # else there is less work than in the mask
    code, said, _ = ntksap("profile", finished_run, *QUICK)

    assert code == 0
    assert "\nlayer1.0.conv1 " in said
    sparse, dense = json.loads((finished_run / "profile.json").read_text())["layers"]
    work = {node["module"]: node["nonzero_macs"] for node in sparse["nodes"] if node["macs"]}
    table = json.loads((finished_run / "mask.json").read_text())["table"]
    assert work == {row["name"].removesuffix(".weight"): 2 * row["kept_macs"] for row in table["rows"]}
    assert [node["module"] for node in dense["nodes"]] == [node["module"] for node in sparse["nodes"]]


def test_without_the_flag_no_node_is_timed(ntksap: Run, tmp_path: Path) -> None:
    out = tmp_path / "profile.json"

    code, said, _ = ntksap("profile", write_graph(tmp_path / "net.onnx"), *QUICK[1:], "--out", out)

    assert code == 0
    assert "unattributed" not in said
    assert not {"layers", "machine"} & json.loads(out.read_text()).keys()
