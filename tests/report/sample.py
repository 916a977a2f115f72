"""A run with realistic numbers: ResNet-50 with its 54 prunable layers at 90 % sparsity, on 64 x 64 images."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from ntksap_export.report import ReportInput


def sample(**parts: Any) -> ReportInput:
    """The whole run; `parts` replaces fields, as `sample(profile={})`."""
    table = _table()
    whole = ReportInput(
        config=_config(),
        mask={
            "method": "ntksap",
            "rounds": 20,
            "seconds": 31.2,
            "schedule": [0.9, 0.5, 0.1],
            "table": table,
            "health": _health(),
        },
        metrics=_metrics(),
        parity=_parity(),
        profile=_profile(),
        sizes={
            "model.safetensors": 11_215_904,
            "model.onnx": 94_062_481,
            "dense.safetensors (computed)": 94_117_208,
        },
        command="ntksap prune-train-export resnet50 --sparsity 0.9 --rounds 20 --epochs 5 --out out/demo",
        versions={"ntksap-export": "0.1.0", "torch": "2.13.0", "onnx": "1.20.0", "onnxruntime": "1.28.0"},
    )
    return replace(whole, **parts)


def cell(variant: str, p50: float, **changes: Any) -> dict[str, Any]:
    """One measured cell of a profile."""
    batch = changes.get("batch", 1)
    return {
        "variant": variant,
        "backend": "onnxruntime",
        "device": "cpu",
        "precision": "fp32",
        "batch": batch,
        "threads": 2,
        "status": "measured",
        "reason": None,
        "latency_ms": {
            "p50": p50,
            "p90": p50 * 1.06,
            "p99": p50 * 1.21,
            "mean": p50 * 1.02,
            "min": p50 * 0.97,
            "max": p50 * 1.4,
            "iqr": p50 * 0.03,
        },
        "throughput_images_per_s": batch * 1000 / p50,
        "runs": 100,
        "warmup_runs": 10,
        "noise": "steady",
        "memory": {
            "baseline_rss_bytes": 61_000_000,
            "load_delta_bytes": 118_400_000 - 2_900_000 * (variant == "sparse"),
            "run_peak_rss_bytes": 205_300_000 + 3_000_000 * batch + 1_800_000 * (variant == "sparse"),
            "run_peak_delta_bytes": 25_900_000,
        },
        "times_ms": [p50 * (1 + 0.01 * math.sin(i)) for i in range(100)],
        **changes,
    }


def cell2(variant: str, p50: float, ratio: tuple[float, float, float] | None = None, **changes: Any) -> dict[str, Any]:
    """One measured cell of a profile of schema 2; `ratio` is (value, low, high) to the dense one."""
    old = cell(variant, p50)
    times = [p50 * (1 + 0.02 * (_wave(i) + (i % 37 == 36) * 6 + (i % 97 == 96) * 14)) for i in range(400)]
    told = (
        {}
        if ratio is None
        else {"ratio": dict(zip(("baseline", "value", "low", "high"), ("dense", *ratio), strict=True))}
    )
    return {
        **old,
        "streams": 1,
        "latency_ms": {**old["latency_ms"], "p95": p50 * 1.1, "p99.9": p50 * 1.3},
        "median_ci_ms": [p50 * 0.996, p50 * 1.005],
        "ci_level": 0.95,
        "slices": 4,
        "noise_facts": {
            "iqr_over_median": 0.03,
            "drift": 0.004,
            "throttled": False,
            "other_load": 0.02,
            "subnormals": 0,
        },
        "options": {"intra_op_num_threads": 2},
        "memory": {**old["memory"], "settings": {"enable_cpu_mem_arena": True}},
        "file_bytes": 94_062_481,
        "energy": {"skipped": "the counters cannot be read"},
        "times_ms": times,
        "slice_of": [i // 100 for i in range(400)],
        **told,
        **changes,
    }


def _wave(i: int) -> float:
    """Between -1 and 1, and never the same."""
    return math.sin(1.7 * i) * math.cos(0.37 * i)


def profile2() -> dict[str, Any]:
    """A profile of schema 2: two precisions, two batches, layers, machine, server mode, a skipped cell."""
    int8 = {"precision": "int8", "file_bytes": 23_900_000}
    server = [
        {"rate": rate, "p50_ms": 30 + rate / 2, "p99_ms": 40 + rate**2 / 8, "served_per_s": rate}
        for rate in (5, 10, 20, 30)
    ]
    skipped = {"status": "skipped", "reason": "openvino is not installed: pip install openvino", "latency_ms": None}
    return {
        "schema": 2,
        "command": "ntksap profile out/demo --per-layer --batch 1,8",
        "environment": {**_profile()["environment"], "isa": ["avx2", "avx512f"], "governor": "performance"},
        "settings": {"backends": ["onnxruntime"], "batches": [1, 8], "target_ci": 0.02, "limit_ms": 80.0},
        "files": {"model.onnx": 94_062_481},
        "machine": {
            "peak_gflops": {"2": 150.0},
            "bandwidth_gb_s": {"2": 20.0},
            "method": "fused multiply-adds; a copy",
        },
        "cells": [
            cell2("dense", 27.7, server=server, max_rate=17.5),
            cell2("sparse", 28.1, (1.014, 0.99, 1.04), server=server, max_rate=17.2),
            cell2("sparse", 15.2, (0.549, 0.53, 0.57), **int8),
            cell2("dense", 179.4, batch=8),
            cell2("sparse", 181.0, (1.009, 1.0, 1.02), batch=8),
            cell2("sparse", 95.2, (0.531, 0.52, 0.54), batch=8, **int8),
            cell2("dense", 43.8, backend="torch"),
            cell2("sparse", 44.2, (1.01, 0.97, 1.05), backend="torch", noise="noisy: IQR over median is 0.14"),
            {**cell2("sparse", 1.0, backend="openvino"), **skipped, "memory": None, "times_ms": []},
        ],
        "layers": [_nodes("dense", 27.7), _nodes("sparse", 28.1)],
    }


def _nodes(variant: str, total: float) -> dict[str, Any]:
    rows = _table()["rows"]
    macs = sum(row["macs"] for row in rows)
    nodes: list[dict[str, Any]] = []
    for place, row in enumerate(rows):
        ms = 0.9 * total * row["macs"] / macs * (1 + 0.1 * _wave(place)) + 0.01
        size = 4 * row["weights"] + 2000
        nodes.append(
            {
                "node": f"node_{place}",
                "op": "Conv" if len(row["shape"]) == 4 else "Gemm",
                "module": row["name"].removesuffix(".weight"),
                "ms": ms,
                "share": ms / total,
                "macs": row["macs"],
                "nonzero_macs": row["kept_macs"] if variant == "sparse" else row["macs"],
                "gflops": 2 * row["macs"] / ms / 1e6,
                "share_of_peak": 2 * row["macs"] / ms / 1e6 / 150,
                "bytes": size,
                "intensity": 2 * row["macs"] / size,
            }
        )
    nodes.append({"node": "pool", "op": "GlobalAveragePool", "module": None, "ms": 0.05, "share": 0.05 / total})
    place = {"backend": "onnxruntime", "device": "cpu", "precision": "fp32", "batch": 1, "threads": 2}
    sums = {"total_ms": total, "unattributed_ms": 0.4, "activation_peak_bytes": 9_633_792}
    return {"variant": variant, **place, **sums, "nodes": nodes}


def pair_of(dense: float, sparse: float, **changes: Any) -> dict[str, Any]:
    """A profile with one pair."""
    return {"cells": [cell("dense", dense, **changes), cell("sparse", sparse, **changes)]}


def _config() -> dict[str, Any]:
    return {
        "architecture": "resnet50",
        "num_classes": 10,
        "classes": [str(digit) for digit in range(10)],
        "pretrained_cfg": {"input_size": [3, 64, 64], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        "ntksap": {
            "config": {
                "data": "digits",
                "sparsity": 0.9,
                "method": "ntksap",
                "rounds": 20,
                "epochs": 5,
                "batch-size": 64,
                "lr": 0.1,
                "seed": 0,
                "keep-dense": [],
                "augment": True,
            },
            "provenance": {"method": "ntksap", "seed": 0},
        },
        "data": {"name": "digits", "train_images": 1437, "val_images": 360, "embedded": True},
    }


def _layers() -> list[tuple[str, list[int], int, float]]:
    """(name, shape, output positions, density) of torchvision's ResNet-50 at 64 x 64."""
    layers: list[tuple[str, list[int], int, float]] = [("conv1.weight", [64, 3, 7, 7], 32 * 32, 0.97)]
    inputs = 64
    for stage, (blocks, density) in enumerate(zip((3, 4, 6, 3), (0.88, 0.49, 0.17, 0.0335), strict=True)):
        width, side = 64 * 2**stage, 16 // 2**stage
        for block in range(blocks):
            name = f"layer{stage + 1}.{block}"
            before = (side * 2 if stage and not block else side) ** 2
            wobble = density * (1 - 0.05 * block)
            layers.append((f"{name}.conv1.weight", [width, inputs, 1, 1], before, wobble))
            layers.append((f"{name}.conv2.weight", [width, width, 3, 3], side**2, wobble * 0.93))
            layers.append((f"{name}.conv3.weight", [4 * width, width, 1, 1], side**2, wobble * 1.05))
            if not block:
                shape = [4 * width, inputs, 1, 1]
                layers.append((f"{name}.downsample.0.weight", shape, side**2, wobble * 1.1))
            inputs = 4 * width
    return [*layers, ("fc.weight", [10, 2048], 1, 0.42)]


def _table() -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for name, shape, positions, density in _layers():
        weights = math.prod(shape)
        kept = round(weights * density)
        row = {"name": name, "shape": shape, "weights": weights, "kept": kept, "density": kept / weights}
        rows.append({**row, "macs": weights * positions, "kept_macs": kept * positions})
    total = {key: sum(row[key] for row in rows) for key in ("weights", "kept", "macs", "kept_macs")}
    for row in rows:
        row["flop_share"] = row["kept_macs"] / total["kept_macs"]
    return {
        "rows": rows,
        **total,
        "density": total["kept"] / total["weights"],
        "flop_density": total["kept_macs"] / total["macs"],
        "theoretical_speedup": total["macs"] / total["kept_macs"],
    }


def _health() -> dict[str, Any]:
    return {
        "collapsed_layers": [],
        "empty_output_channels": {"layer4.0.conv2.weight": 31, "layer4.2.conv1.weight": 118},
        "empty_input_channels": {"layer4.0.conv2.weight": 27},
        "classifier": "fc.weight",
        "empty_classes": 0,
        "classes": 10,
        "advice": ["149 output channels have nothing kept; compacting removes them without changing the logits."],
    }


def _metrics() -> dict[str, Any]:
    accuracies = ((0.31, 0.28), (0.62, 0.64), (0.81, 0.83), (0.9, 0.925), (0.934, 0.919))
    history = [
        {
            "epoch": epoch,
            "train_loss": 2.31 - 0.42 * epoch,
            "train_accuracy": train,
            "val_loss": 2.4 - 0.41 * epoch,
            "val_accuracy": val,
            "lr": 0.1 / epoch,
            "seconds": 12.0,
            "images_per_s": 119.7,
        }
        for epoch, (train, val) in enumerate(accuracies, start=1)
    ]
    summary = {"epochs": 5, "seconds": 60.1, "device": "cpu", "precision": "bf16"}
    return {**summary, "final": history[-1], "best": history[3], "history": history}


def _parity() -> dict[str, Any]:
    check = {"runtime": "onnxruntime", "atol": 1e-4, "rtol": 1e-3, "logit_scale": 8.31, "passed": True}
    check |= {"images": "real", "output": "logits"}
    return {
        "passed": True,
        "top1_agreement": 1.0,
        "checks": [
            {
                **check,
                "batch": batch,
                "optimization": level,
                "max_abs": 3.1e-6 * batch,
                "max_rel": 8.8e-7 * batch,
            }
            for batch in (1, 8)
            for level in ("off", "all")
        ],
    }


def _profile() -> dict[str, Any]:
    noisy = "noisy: IQR / median is 0.14"
    skipped = {"device": "cuda", "threads": None, "status": "skipped", "reason": "no CUDA device"}
    lost = {
        "latency_ms": None,
        "memory": None,
        "throughput_images_per_s": None,
        "noise": None,
        "times_ms": [],
    }
    return {
        "environment": {
            "cpu": "Intel Xeon Platinum 8481C @ 2.70GHz",
            "cores": 2,
            "gpu": None,
            "os": "Linux 6.1",
            "python": "3.11.9",
            "versions": {"torch": "2.13.0", "onnxruntime": "1.28.0"},
            "governor": None,
        },
        "cells": [
            cell("sparse", 28.1),
            cell("dense", 27.7),
            cell("sparse", 44.2, backend="torch", noise=noisy),
            cell("dense", 43.8, backend="torch"),
            cell("sparse", 181.0, batch=8),
            cell("dense", 179.4, batch=8),
            cell("sparse", 262.0, backend="torch", batch=8),
            cell("dense", 259.7, backend="torch", batch=8),
            {**cell("sparse", 1.0, **skipped), **lost},
            {**cell("dense", 1.0, **skipped), **lost},
        ],
    }
