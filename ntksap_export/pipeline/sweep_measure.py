"""All networks of a sweep measured side by side, so that their ratios are honest; each run's share of the result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from ntksap_export.atomic import json_digest, write_json
from ntksap_export.errors import RunDirectoryError
from ntksap_export.graph import files_of
from ntksap_export.pipeline.context import Context
from ntksap_export.pipeline.profiling import profile_json
from ntksap_export.pipeline.run_dir import RunDir, digest, read_json_file
from ntksap_export.pipeline.stages import RUNNERS
from ntksap_export.pipeline.sweep_cells import DENSE
from ntksap_export.pipeline.target import ENGINE, Asked
from ntksap_export.pipeline.targets import run_files, run_variants
from ntksap_export.profiling.profile import Variant, profile
from ntksap_export.profiling.settings import Settings
from ntksap_export.progress import Progress
from ntksap_export.runtime.backends import unavailable

PROFILE = "profile.json"
_RECORD = "measured.json"


def measure(
    contexts: dict[str, Context], precisions: Sequence[str], home: RunDir, progress: Progress
) -> dict[str, Any]:
    """The profile of all networks, as DIR/profile.json holds it; the earlier one if it is of the same files.

    Args:
        contexts: name of the cell -> its run, exported.
        precisions: of the graphs.
        home: the sweep's directory, held.
        progress: where the measuring is shown.
    """
    some = next(iter(contexts.values()))
    settings = replace(Settings.of(some.config), precisions=tuple(precisions), per_layer=False)
    asked = Asked(settings.precisions, {}, home.workspace)
    variants = [
        replace(variant, name=f"{name} {ENGINE}" if variant.engine else name)
        for name, context in contexts.items()
        for variant in run_variants(context, asked)
    ]
    of = json_digest({"settings": settings.to_json(), "files": _digests(variants), "missing": _missing(settings)})
    if (earlier := _earlier(home, of)) is not None:
        progress.say("measure: finished before, skipped")
        return earlier
    progress.say(f"measure {len(variants)} networks side by side ...")
    rows = profile(variants, settings, progress=progress)  # compared with `dense` if it is there
    sizes = {f"{name}/{file}": size for name, run in contexts.items() for file, size in run_files(run.run.path).items()}
    write_json(home.file(PROFILE), profile_json(rows, sizes, settings, some.command))
    write_json(home.record(_RECORD), {"of": of, PROFILE: digest(home.file(PROFILE))})
    return read_json_file(home.file(PROFILE))


def share_out(contexts: dict[str, Context], measured: dict[str, Any]) -> None:
    """Give each run the rows of its network and of the dense one, as its own profile.json; then write its report.

    What was written before of the same rows stays.
    """
    for name, context in contexts.items():
        own = {name: "dense" if name == DENSE else "sparse", f"{name} {ENGINE}": ENGINE, DENSE: "dense"}
        rows = [{**row, "variant": own[row["variant"]]} for row in measured["cells"] if row["variant"] in own]
        value = {**measured, "cells": rows, "files": run_files(context.run.path)}
        with context.run.locked():
            done = all(context.run.is_done(stage, context.config) for stage in ("profile", "report"))
            if not done or context.run.read_json(PROFILE) != value:
                _write(context, value)


def _write(context: Context, value: dict[str, Any]) -> None:
    run = context.run
    run.begin("profile", context.config)
    write_json(run.file(PROFILE), value)
    run.finish("profile", (PROFILE,))
    run.begin("report", context.config)
    run.finish("report", RUNNERS["report"](context))


def _digests(variants: Iterable[Variant]) -> dict[str, str]:
    files: dict[str, str] = {}
    for variant in variants:
        paths = [
            *(files_of(variant.graph) if variant.graph else ()),
            *([variant.checkpoint] if variant.checkpoint else ()),
        ]
        files |= {f"{variant.name}/{path.name}": digest(path) for path in paths}
    return files


def _missing(settings: Settings) -> list[str]:
    """Where nothing could be measured, and why: a backend that is installed later is measured then."""
    places = product(settings.backends, settings.devices)
    return [f"{backend} on {device}: {why}" for backend, device in places if (why := unavailable(backend, device))]


def _earlier(home: RunDir, of: str) -> dict[str, Any] | None:
    path = home.file(PROFILE)
    try:
        record = read_json_file(home.record(_RECORD))
        same = record.get("of") == of and record.get(PROFILE) == digest(path)
    except (RunDirectoryError, OSError):  # never measured, or a file is lost
        return None
    return read_json_file(path) if same else None
