"""The result of a run in a few numbers, for a terminal or a pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ntksap_export.graph import files_of
from ntksap_export.pipeline.cells import latency_row
from ntksap_export.pipeline.engine import BODY, engine_summary
from ntksap_export.pipeline.run_dir import STAGES, RunDir

_FILES = ("model.safetensors", "model.onnx", "model.fp16.onnx", "model.int8.onnx", BODY, "report.html")


def summary(out: Path) -> dict[str, Any]:
    """What the directory holds: settings, mask, accuracy, sizes, latency; parts that are missing are left out.

    Raises:
        RunDirectoryError: the directory is no run.
    """
    run = RunDir(out)
    config = run.read_json("config.json")
    settings = config["ntksap"]["config"]
    result: dict[str, Any] = {
        "out": str(out),
        "model": config["architecture"],
        "data": config["data"]["name"],
        "num_classes": config["num_classes"],
        "input_size": config["pretrained_cfg"]["input_size"],
        "method": settings["method"],
        "files": {file.name: file.stat().st_size for name in _files(run) for file in files_of(run.file(name))},
        "stages": [stage for stage in STAGES if run.finished(stage)],
    }
    if mask := _read(run, "mask.json"):
        table = mask["table"]
        result |= {
            "sparsity": 1 - table["density"],
            "density": table["density"],
            "kept": table["kept"],
            "weights": table["weights"],
            "flop_density": table["flop_density"],
            "advice": mask["health"]["advice"],
            "prune_s": mask["seconds"],
            "pattern": mask.get("pattern", "unstructured"),
            "channels": _channels(mask.get("channels")),
            "latency_budget": mask.get("latency"),
        }
        if search := mask.get("search"):
            result["search"] = _search(search)
    if metrics := _read(run, "metrics.json"):
        result |= {
            "epochs": metrics["epochs"],
            "val_accuracy": metrics["final"]["val_accuracy"],
            "best_val_accuracy": metrics["best"]["val_accuracy"],
            "train_s": metrics["seconds"],
        }
        if recovery := metrics.get("recovery"):
            ends = {f"mean_jsv_{key}": (recovery.get(key) or {}).get("mean") for key in ("before", "after")}
            result["recovery"] = {"how": recovery["how"], "seconds": recovery["seconds"], **ends}
    if parity := _read(run, "parity.json"):
        result["parity"] = parity["passed"]
        result["precisions"] = {
            name: {**entry["accuracy"], "passed": entry["passed"], "float32_layers": [*entry.get("float32_layers", ())]}
            for name, entry in parity.get("precisions", {}).items()
        }
        if entry := parity.get("engine"):
            result["engine"] = engine_summary(entry)
    if not stale(run, "profile") and (profile := _read(run, "profile.json")):
        result["latency"] = [latency_row(cell) for cell in profile["cells"]]
    return result


def stale(run: RunDir, stage: str) -> bool:
    """Whether what a stage after `export` left is of another graph than the one that is there."""
    return run.finished("export") and not run.finished(stage)


def _files(run: RunDir) -> list[str]:
    return [name for name in _FILES if not (name == "report.html" and stale(run, "report"))]


def _channels(told: dict[str, Any] | None) -> dict[str, int] | None:
    return None if told is None else {"kept": told["kept"], "channels": told["channels"]}


def _search(told: dict[str, Any]) -> dict[str, Any]:
    """How a mask was found by training, without the rows of its trainings."""
    return {"trainings": len(told["rounds"]), **{key: value for key, value in told.items() if key != "rounds"}}


def _read(run: RunDir, name: str) -> dict[str, Any] | None:
    try:
        return dict(json.loads(run.file(name).read_text(encoding="utf-8")))
    except (OSError, json.JSONDecodeError):
        return None
