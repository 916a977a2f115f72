from __future__ import annotations

from typing import Any

from ntksap_export.cli.layer_text import layer_tables

MACHINE = {"peak_gflops": {"1": 200.0}, "bandwidth_gb_s": {"1": 20.0}, "method": "by hand"}


def node(module: str | None, ms: float, macs: int = 0, nonzero: int = 0, op: str = "Conv") -> dict[str, Any]:
    gflops = 2 * macs / ms / 1e6 if macs else None
    share_of_peak = gflops / 200.0 if gflops else None
    numbers = {"macs": macs, "nonzero_macs": nonzero, "gflops": gflops, "share_of_peak": share_of_peak}
    return {"node": "n", "op": op, "module": module, "ms": ms, "share": ms / 2.0, **numbers}


def layer(variant: str, nodes: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    head = {"backend": "onnxruntime", "device": "cpu", "precision": "fp32", "batch": 1, "threads": 1}
    rest = 2.0 - sum(each["ms"] for each in nodes)
    times = {"total_ms": 2.0, "plain_ms": 1.6, "unattributed_ms": rest}
    return {"variant": variant, **head, "status": "measured", "reason": None, **times, "nodes": nodes, **changes}


SPARSE = layer(
    "sparse", [node("conv1", 0.4, 40_000_000, 4_000_000), node(None, 0.1, op="Relu"), node(None, 0.1, op="Relu")]
)
DENSE = layer("dense", [node("conv1", 0.5, 40_000_000, 40_000_000), node("fc", 0.5, 1_000_000, 1_000_000)])


def test_variants_stand_side_by_side_by_module() -> None:
    lines = layer_tables([SPARSE, DENSE], MACHINE, "pruned", 120)

    assert lines == [
        "onnxruntime on cpu, fp32, batch 1, 1 thread; this machine at its best: 200 GFLOP/s, 20 GB/s",
        "                                               pruned                                    dense",
        "module              ms  share density GFLOP/s of peak        ms  share density GFLOP/s of peak",
        "conv1            0.400  20.0%   10.0%   200.0    100%     0.500  25.0%  100.0%   160.0     80%",
        "(Relu)           0.200  10.0%                                 -",
        "fc                   -                                    0.500  25.0%  100.0%     4.0      2%",
        "unattributed     1.400  70.0%                             1.000  50.0%",
        "total            2.000 100.0%                             2.000 100.0%",
        "the watched calls took longer than others by: pruned +25%, dense +25%",
    ]


def test_variants_that_do_not_fit_follow_below() -> None:
    lines = layer_tables([SPARSE, DENSE], None, "sparse", 60)

    assert [line.strip() for line in lines if line.strip() in ("sparse", "dense")] == ["sparse", "dense"]
    assert max(map(len, lines[1:-1])) <= 60
    assert lines[0] == "onnxruntime on cpu, fp32, batch 1, 1 thread"


def test_cells_have_tables_of_their_own_and_what_is_missing_says_why() -> None:
    skipped = {**layer("sparse", []), "backend": "tensorrt", "reason": "not watched", "total_ms": None}

    lines = layer_tables([SPARSE, layer("sparse", SPARSE["nodes"], threads=2, batch=8), skipped], MACHINE, width=120)

    assert [line for line in lines if "thread" in line] == [
        "onnxruntime on cpu, fp32, batch 1, 1 thread; this machine at its best: 200 GFLOP/s, 20 GB/s",
        "onnxruntime on cpu, fp32, batch 8, 2 threads",
    ]
    assert lines[-1] == "tensorrt: nodes not timed, not watched"


def test_long_names_keep_their_end() -> None:
    name = "features." * 6 + "conv"

    lines = layer_tables([layer("dense", [node(name, 1.0, 10, 10)])], width=100)

    assert any(line.startswith("...") and "features.conv " in line for line in lines)
