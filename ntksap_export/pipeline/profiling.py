"""The stage `profile`, and measuring several networks, in a run directory or not, side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ntksap_export.atomic import write_json
from ntksap_export.config import make_config
from ntksap_export.errors import ConfigError, UnavailableError
from ntksap_export.pipeline.context import Context
from ntksap_export.pipeline.target import Asked, Target, check_backends, side_by_side
from ntksap_export.pipeline.targets import open_run, open_targets, run_files
from ntksap_export.profiling.environment import environment
from ntksap_export.profiling.layers import per_layer
from ntksap_export.profiling.profile import profile
from ntksap_export.profiling.settings import Settings
from ntksap_export.progress import Progress
from ntksap_export.runtime import backends

_RAW = ("times_ms", "slice_of")


def run_profile(context: Context) -> tuple[str, ...]:
    """Measure the sparse network beside its dense twin; writes profile.json."""
    run, settings = context.run, Settings.of(context.config)
    run.workspace.mkdir(parents=True, exist_ok=True)
    target = open_run(context, Asked(settings.precisions, {}, run.workspace))
    cells = _measured([target], settings, context.progress)
    parts = _node_times([target], settings, context.progress)
    write_json(run.file("profile.json"), profile_json(cells, run_files(run.path), settings, context.command) | parts)
    return ("profile.json",)


def profile_targets(
    targets: Sequence[str],
    settings: Mapping[str, Any],
    *,
    out: Path | None = None,
    progress: Progress | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Measure run directories, graphs, checkpoints of ours and models by name, in turn with one another.

    Args:
        targets: at least one; a model by its name has random weights.
        settings: the `profile_*` keys of `RunConfig` that were given, and `image_size` and `num_classes`.
        out: where to write the result with its raw times, or None.
        progress: where cells are shown.
        command: how to repeat it.

    Returns:
        The content of profile.json.

    Raises:
        ConfigError: no target, two that are the same, or an input whose shape is not known.
        RunDirectoryError, CheckpointError, ExportError: a target that is not there, damaged, foreign or unfinished.
        UnavailableError: the only backend that was asked for is not here.
    """
    if not targets:
        raise ConfigError("name at least one TARGET: a run directory, an .onnx, a checkpoint, or a model")
    check_backend(settings)
    given = {key: value for key, value in settings.items() if key.startswith("profile_")}
    known = {key: value for key, value in settings.items() if not key.startswith("profile_")}
    with tempfile.TemporaryDirectory(prefix="ntksap-") as scratch:
        opened = open_targets(targets, Asked(given.get("profile_precision"), known, Path(scratch)))
        check_backends(opened, given.get("profile_backend", ()))
        if not any(variant.model for target in opened for variant in target.own):
            given = {"profile_backend": ("onnxruntime",), **given}  # graphs alone
        config = make_config({"model": "targets", **given})
        cells = _measured(opened, Settings.of(config), progress)
        parts = _node_times(opened, Settings.of(config), progress)
    result = profile_json(cells, _all_files(opened), Settings.of(config), command) | parts
    if out is not None:
        write_json(out, result)
    return result


def check_backend(settings: Mapping[str, Any]) -> None:
    """Refuse to measure nothing: the one backend that was asked for runs on none of the devices.

    Args:
        settings: keys of `RunConfig` that were given; those of the profile count.

    Raises:
        ConfigError: no such backend or device.
        UnavailableError: it says what to install.
    """
    given = {key: value for key, value in settings.items() if key.startswith("profile_")}
    if len(given.get("profile_backend", ())) != 1:
        return
    config = make_config({"model": "targets", **given})
    (name,) = config.profile_backend
    reasons = [backends.unavailable(name, device) for device in config.profile_device]
    if all(reasons):
        raise UnavailableError(f"{name}: {'; '.join(dict.fromkeys(filter(None, reasons)))}")


def profile_json(
    cells: Sequence[Mapping[str, Any]], sizes: Mapping[str, int], settings: Settings, command: str
) -> dict[str, Any]:
    """profile.json: how it was measured, the machine, the files and the rows."""
    return {
        "schema": 2,
        "command": command,
        "environment": environment(),
        "settings": settings.to_json(),
        "files": dict(sizes),
        "cells": [dict(cell) for cell in cells],
    }


def without_raw_times(result: Mapping[str, Any]) -> dict[str, Any]:
    """profile.json for a screen: its cells without each single time."""
    cells = [{key: value for key, value in cell.items() if key not in _RAW} for cell in result["cells"]]
    return {**result, "cells": cells}


def _measured(targets: Sequence[Target], settings: Settings, progress: Progress | None) -> list[dict[str, Any]]:
    variants, baseline = side_by_side(targets)
    cells = profile(variants, settings, baseline=baseline, progress=progress) if variants else []
    return _with_missing(cells, targets, settings)


def _node_times(targets: Sequence[Target], settings: Settings, progress: Progress | None) -> dict[str, Any]:
    """`machine` and `layers` of profile.json where they are asked for."""
    variants, _ = side_by_side(targets)
    return per_layer(variants, settings, progress) if settings.per_layer and variants else {}


def _with_missing(
    cells: Sequence[dict[str, Any]], targets: Sequence[Target], settings: Settings
) -> list[dict[str, Any]]:
    """Skipped rows of precisions that are files of their own say what makes the file; where there is no row, one."""
    able = [name for name in settings.backends if not backends.takes_model(name)] or [settings.backends[0]]
    reasons = {
        (_called(target, targets), precision, backend): reason
        for target in targets
        for precision, reason in target.missing.items()
        for backend in able
    }
    rows, told = [], set()
    for cell in cells:
        key = (cell["variant"], cell["precision"], cell["backend"])
        if key in reasons and cell["status"] == "skipped":
            told.add(key)
            if cell.get("batch") is not None:  # else the backend is not here, which comes first
                cell = {**cell, "reason": reasons[key]}
        rows.append(cell)
    return rows + [
        {
            "variant": name,
            "precision": precision,
            "backend": backend,
            "device": settings.devices[0],
            "batch": None,
            "threads": None,
            "streams": None,
            "status": "skipped",
            "reason": reason,
        }
        for (name, precision, backend), reason in reasons.items()
        if (name, precision, backend) not in told
    ]


def _called(target: Target, targets: Sequence[Target]) -> str:
    """The variant's name of a target's own network."""
    return target.name if len(targets) > 1 else "sparse" if target.twin else "dense"


def _all_files(targets: Sequence[Target]) -> dict[str, int]:
    if len(targets) == 1:
        return dict(targets[0].files)
    return {f"{target.name}/{file}": size for target in targets for file, size in target.files.items()}
