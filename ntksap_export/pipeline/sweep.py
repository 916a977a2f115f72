"""A sweep: many networks of one model through the road, measured side by side, and the point among them to take.

    DIR/dense, DIR/METHOD-PATTERN-SPARSITY ...   each a whole run
    DIR/profile.json, sweep.json, sweep.html     what they have together

A cell that fails is a row with its reason, and the others go on. The same call again takes finished cells as they are,
goes on with the interrupted one, and tries again what failed. sweep.json is written after each cell, whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from ntksap_export.atomic import write_json, write_text
from ntksap_export.errors import LIMIT_EXIT_CODE, NtksapError, Preempted, UnavailableError
from ntksap_export.pipeline.cells import latency_row
from ntksap_export.pipeline.context import Context
from ntksap_export.pipeline.precisions import RejectedError
from ntksap_export.pipeline.road import run_road
from ntksap_export.pipeline.run_dir import RunDir
from ntksap_export.pipeline.sweep_cells import DENSE
from ntksap_export.pipeline.sweep_choice import PLACE, Demands, choose, mark_fronts_
from ntksap_export.pipeline.sweep_measure import measure, share_out
from ntksap_export.pipeline.sweep_ready import ROAD, Sweep, Work, cell_row, get_ready
from ntksap_export.pipeline.target import ENGINE
from ntksap_export.profiling.environment import environment
from ntksap_export.progress import Brief, Progress, Silent
from ntksap_export.report.sweep import render_sweep

RESULT: Final = "sweep.json"
PAGE: Final = "sweep.html"


def sweep(
    settings: Mapping[str, Any],
    out: Path,
    *,
    precisions: Iterable[str] | None = None,
    demands: Demands | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Run every cell, measure all of them side by side, and mark the front and the point that meets the demands.

    Args:
        settings: keys of `RunConfig`, `model` among them; `method`, `pattern` and `sparsity` may be several each.
        out: of the sweep; each cell gets a directory in it.
        precisions: of the graphs: `fp32`, `fp16`, `int8`; None is float32 and what `settings` ask for.
        demands: what the chosen point must meet.
        overwrite: give up what the cells' directories hold where it differs.
        progress: where messages and bars go.
        command: how to repeat this sweep, for its page.

    Returns:
        What sweep.json holds. `sweep_exit_code` says what the command line makes of it.

    Raises:
        ConfigError, DataError, UnavailableError, CheckpointError: found before anything is written.
        RunDirectoryError: `out` is no sweep's, a cell has other settings, or another process works there.
        Preempted: SIGTERM during a training, which is saved.
    """
    shown = Brief(progress or Silent())
    ready = get_ready(settings, out, precisions, overwrite, shown, command)
    home, asked = RunDir(out), demands or Demands()
    with home.locked():
        tree: dict[str, Any] = {
            "schema": 1,
            "command": command,
            "environment": environment(),
            "axes": ready.axes.to_json(),
            "limits": asked.to_json(),
            "cells": [cell_row(work.cell, ready.model) for work in ready.works],
            "skipped": [],
            "chosen": None,
            "verdict": "the sweep has not ended",
        }
        _run_cells(ready, tree, home, overwrite, shown)
        _measure_all(ready, tree, home, shown)
        mark_fronts_(tree["cells"])
        tree["chosen"], tree["verdict"] = choose(tree["cells"], asked)
        write_json(home.file(RESULT), tree)
        write_text(home.file(PAGE), render_sweep(tree))
    return tree


def sweep_exit_code(tree: Mapping[str, Any]) -> int:
    """That of the first cell that failed; else 9 where there are limits and nothing meets them; else 0."""
    failed = [int(cell["exit_code"]) for cell in tree["cells"] if cell.get("exit_code")]
    if failed:
        return failed[0]
    asked = any(limit is not None for limit in tree["limits"].values())
    return LIMIT_EXIT_CODE if asked and tree["chosen"] is None else 0


def _run_cells(ready: Sweep, tree: dict[str, Any], home: RunDir, overwrite: bool, progress: Progress) -> None:
    """Take every cell along the road and fill in its row, that of a failed one with its reason."""
    todo = [(work, row) for work, row in zip(ready.works, tree["cells"], strict=True) if work.context is not None]
    before = sum(work.finished for work, _ in todo)
    for work, row in todo:
        if work.finished:
            row |= {"status": "finished", **_result(work)}
    write_json(home.file(RESULT), tree)
    with progress.task("sweep", len(todo), before) as task:
        for number, (work, row) in enumerate(todo, 1):
            where = f"cell {number} of {len(todo)}: {work.cell.name}"
            if work.finished:
                progress.say(f"{where} finished before, skipped")
                continue
            progress.say(f"{where} ...")
            row |= _run_cell(work, overwrite, progress)
            if row["status"] == "finished":
                row |= _result(work)
            write_json(home.file(RESULT), tree)
            task.advance(note=work.cell.name)


def _run_cell(work: Work, overwrite: bool, progress: Progress) -> dict[str, Any]:
    assert work.context is not None
    try:
        run_road(
            work.context.config,
            work.context.run.path,
            stages=ROAD,
            overwrite=overwrite,
            progress=progress,
            command=work.context.command,
        )
    except Preempted:
        raise
    except RejectedError as error:  # there is a float32 graph to measure
        return _told(work, "finished", error, progress)
    except NtksapError as error:
        return _told(work, "failed", error, progress)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        full = UnavailableError("the GPU's memory is full; use a smaller --batch-size, or --accumulate")
        return _told(work, "failed", full, progress)
    return {"status": "finished"}


def _told(work: Work, status: str, error: NtksapError, progress: Progress) -> dict[str, Any]:
    progress.say(f"{work.cell.name}: {error}")
    return {"status": status, "reason": str(error), "exit_code": error.exit_code}


def _result(work: Work) -> dict[str, Any]:
    """What a cell's files say of its network."""
    assert work.context is not None
    run = RunDir(work.context.run.path)
    table = run.read_json("mask.json")["table"]
    sparsity = work.cell.sparsity
    return {
        "accuracy": run.read_json("metrics.json")["final"]["val_accuracy"],
        "density": table["density"],
        "flop_density": table["flop_density"],
        "sparsity": 1 - table["density"] if sparsity is None else sparsity,
    }


def _measure_all(ready: Sweep, tree: dict[str, Any], home: RunDir, progress: Progress) -> None:
    """Measure what finished, and fill in the points."""
    rows = [row for row in tree["cells"] if row["status"] == "finished"]
    contexts = {work.cell.name: work.context for work in ready.works if work.context is not None}
    contexts = {row["dir"]: contexts[row["dir"]] for row in rows}
    if not contexts:
        return
    profile = measure(contexts, ready.axes.precisions, home, progress)
    for row in rows:
        row["points"] = _points(row, contexts[row["dir"]], profile["cells"])
    tree |= {"environment": profile["environment"], "skipped": _skipped(profile["cells"])}
    share_out(contexts, profile)


def _points(row: Mapping[str, Any], context: Context, cells: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The measured rows of one network, each with the accuracy of its graph.

    The training may have validated in bfloat16; where another precision was judged, so was the float32 graph beside it.
    """
    judged = RunDir(context.run.path).read_json("parity.json").get("precisions", {})
    known = {name: value["accuracy"]["after"] for name, value in judged.items()}
    known["fp32"] = next((value["accuracy"]["before"] for value in judged.values()), row["accuracy"])
    return [
        _point(cell, known[cell["precision"]])
        for cell in cells
        if cell["variant"] in (row["dir"], f"{row['dir']} {ENGINE}") and cell["status"] == "measured"
    ]


def _point(cell: Mapping[str, Any], accuracy: float) -> dict[str, Any]:
    known = latency_row(cell)
    engine = cell["variant"].endswith(f" {ENGINE}")  # a cell's name holds no blank
    return {
        "variant": ENGINE if engine else "dense" if cell["variant"] == DENSE else "sparse",
        "precision": cell["precision"],
        **{key: cell[key] for key in PLACE},
        "p50_ms": known["p50_ms"],
        "ci_ms": cell.get("median_ci_ms"),
        "ratio": cell.get("ratio"),
        "size_bytes": known["file_bytes"],
        "run_peak_rss_bytes": known["run_peak_rss_bytes"],
        "accuracy": accuracy,
        "on_front": False,
    }


def _skipped(cells: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Where nothing could be measured, each reason once."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for cell in cells:
        if cell["status"] != "measured":
            place = {key: cell[key] for key in PLACE}
            found.setdefault((*place.values(), cell["reason"]), {**place, "reason": cell["reason"]})
    return list(found.values())
