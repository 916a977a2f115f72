"""A sweep before anything is written: its cells, each checked as a run of its own would be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from torch import nn

from ntksap_export.config import RunConfig
from ntksap_export.config_spellings import respelled
from ntksap_export.errors import ConfigError, RunDirectoryError
from ntksap_export.graph import select_passes
from ntksap_export.pipeline.choose import find_goals
from ntksap_export.pipeline.context import Context, check_network
from ntksap_export.pipeline.engine import check_engine
from ntksap_export.pipeline.plan import estimate, seconds_per_image
from ntksap_export.pipeline.profiling import check_backend
from ntksap_export.pipeline.resolve import resolve
from ntksap_export.pipeline.run_dir import RunDir
from ntksap_export.pipeline.sweep_cells import Axes, Cell, check_some, list_cells, read_axes
from ntksap_export.progress import Progress, Silent

ROAD: Final = ("prune", "train", "export")  # of each cell; then all are measured side by side


@dataclass(frozen=True, slots=True)
class Work:
    """A cell and its run.

    Attributes:
        cell: what it is.
        context: its run; None where the cell is skipped.
        images: how many there are to train on.
        done: the stages up to the export that were finished before.
    """

    cell: Cell
    context: Context | None
    images: int = 0
    done: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do up to the export."""
        return len(self.done) == len(ROAD)


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is about to run: the dense network's work is the first."""

    axes: Axes
    works: tuple[Work, ...]

    @property
    def dense(self) -> Context:
        """The run of the dense network."""
        context = self.works[0].context
        assert context is not None
        return context

    @property
    def model(self) -> str:
        """The name of the network that is swept."""
        return self.dense.config.model


def get_ready(
    settings: Mapping[str, Any],
    out: Path,
    precisions: Iterable[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    command: str = "",
) -> Sweep:
    """Find out everything that can be found wrong before something is written.

    Raises:
        ConfigError, DataError, UnavailableError, CheckpointError: what is wrong with all cells.
        RunDirectoryError: `out` is no sweep's, or one of its cells has other settings; says what differs.
    """
    _check_home(out, overwrite)
    settings = respelled(settings)
    axes = read_axes(settings, precisions)
    check_backend(settings)
    first, *others = list_cells(settings, axes)
    assert first.config is not None
    select_passes(first.config.passes)
    check_engine(first.config.engine)
    make = partial(_work, out=out, overwrite=overwrite, progress=progress or Silent(), command=command)
    works = [make(first, config=first.config)]
    dense = works[0].context
    assert dense is not None
    check_network(dense)
    model = dense.build_dense()
    works += [_skipping(cell, model, make) for cell in others]
    check_some(work.cell for work in works)
    return Sweep(axes, tuple(works))


def plan_sweep(
    settings: Mapping[str, Any], out: Path, *, precisions: Iterable[str] | None = None, overwrite: bool = False
) -> dict[str, Any]:
    """What a sweep would do, without doing it: cells, directories, and an estimate of the time.

    Nothing is written. Stages that are finished take no time.

    Raises:
        The errors that `sweep` raises before it starts.
    """
    ready = get_ready(settings, out, precisions, overwrite)
    per_image = cache(partial(seconds_per_image, ready.dense))
    graphs = len(ready.axes.precisions) + ready.dense.config.engine
    networks = graphs * sum(work.context is not None for work in ready.works)
    rows, parts = [], {"profile": estimate(ready.dense, 0, per_image, networks)["profile"]}
    for work in ready.works:
        row = {**cell_row(work.cell, ready.model), "done": list(work.done), "estimated_s": 0.0}
        if work.context is not None:
            spent = estimate(work.context, work.images, per_image)
            left = {stage: spent[stage] for stage in ROAD if stage not in work.done}
            row["estimated_s"] = round(sum(left.values()), 1)
            for stage, seconds in left.items():
                parts[stage] = round(parts.get(stage, 0.0) + seconds, 1)
        rows.append(row)
    total = round(sum(parts.values()), 1)
    return {"out": str(out), "axes": ready.axes.to_json(), "cells": rows, "estimated_s": {**parts, "total": total}}


def cell_row(cell: Cell, model: str) -> dict[str, Any]:
    """A cell as it stands in sweep.json before it has run."""
    return {
        "dir": cell.name,
        "model": model,
        "method": cell.method,
        "pattern": cell.pattern,
        "sparsity": cell.sparsity,
        "status": "pending" if cell.reason is None else "skipped",
        "reason": cell.reason,
    }


def _check_home(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise RunDirectoryError(f"'{out}' is a file; choose another --out")
    home = RunDir(out)
    if home.exists():
        raise RunDirectoryError(f"'{out}' holds a run; a sweep needs a directory of its own, choose another --out")
    if not overwrite and not home.is_held() and out.is_dir() and any(out.iterdir()):
        raise RunDirectoryError(
            f"'{out}' is not empty and holds no sweep of ntksap; choose another --out or pass --overwrite"
        )


def _work(cell: Cell, config: RunConfig, out: Path, overwrite: bool, progress: Progress, command: str) -> Work:
    config, look = resolve(config)
    run = RunDir(out / cell.name)
    run.check(config, ROAD, overwrite)
    done = tuple(stage for stage in ROAD if run.is_done(stage, config))
    return Work(cell, Context(config, run, progress, look.name, command), look.train_images, done)


def _skipping(cell: Cell, model: nn.Module, make: Any) -> Work:
    """The work of a cell; one that cannot be met is skipped, with the reason."""
    if cell.config is None:
        return Work(cell, None)
    try:
        work: Work = make(cell, config=cell.config)
        assert work.context is not None
        find_goals(work.context, model)
    except ConfigError as error:
        return Work(replace(cell, reason=str(error)), None)
    return work
