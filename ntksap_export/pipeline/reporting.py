"""The stage `report`, and several runs on one page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ntksap_export.atomic import write_json, write_text
from ntksap_export.checkpoint import describe
from ntksap_export.config import STAGE_KEYS, RunConfig, defaults, flag_name
from ntksap_export.errors import ConfigError, RunDirectoryError
from ntksap_export.pipeline.context import Context
from ntksap_export.pipeline.run_dir import RunDir, read_json_file
from ntksap_export.pipeline.summary import stale
from ntksap_export.pipeline.targets import run_files
from ntksap_export.report import (
    CSV_NAMES,
    Document,
    ReportInput,
    Run,
    compare_runs,
    document,
    render_card,
    to_html,
    to_json,
    to_markdown,
)

_DENSE = "dense checkpoint (computed)"


def run_report(context: Context) -> tuple[str, ...]:
    """Write report.html, .md and .json, report/*.csv and README.md from what the other stages left.

    Raises:
        RunDirectoryError: no mask, a broken file, or a profile of an earlier graph.
    """
    run = context.run
    data = ReportInput(
        **_parts(run),
        sizes=_sizes(context),
        command=context.command or command_of(context.config),
        versions=dict(context.provenance().versions),
    )
    write_text(run.file("README.md"), render_card(data))
    more = {"command": data.command, "sizes": data.sizes, "versions": data.versions}
    return ("README.md", *write_document(document(data), run.path, "report", "report", more))


def write_document(
    page: Document, directory: Path, stem: str, folder: str, more: dict[str, Any] | None = None
) -> tuple[str, ...]:
    """Write STEM.html, STEM.md and STEM.json, and each table as FOLDER/NAME.csv; tables of before are removed.

    Args:
        page: what to write.
        directory: where; created if need be.
        stem: name of the page's files.
        folder: of the tables, inside `directory`.
        more: keys of the JSON besides those of the page.

    Returns:
        The names of the files, relative to `directory`.
    """
    write_text(directory / f"{stem}.html", to_html(page))
    write_text(directory / f"{stem}.md", to_markdown(page))
    write_json(directory / f"{stem}.json", to_json(page, **(more or {})))
    tables = {f"{folder}/{table.name}.csv": table.csv() for table in page.tables() if table.rows}
    for name in CSV_NAMES:
        if f"{folder}/{name}.csv" not in tables:
            (directory / folder / f"{name}.csv").unlink(missing_ok=True)
    for name, content in tables.items():
        write_text(directory / name, content)
    return (f"{stem}.html", f"{stem}.md", f"{stem}.json", *tables)


def report_runs(directories: Sequence[Path], out: Path) -> tuple[Path, ...]:
    """Several runs side by side: comparison.html, .md, .json and tables/*.csv in `out`, which is created.

    Raises:
        ConfigError: fewer than two directories, or one of them twice.
        RunDirectoryError: one of them is no run, or `out` is a file or a run.
    """
    if len(directories) < 2 or len({path.resolve() for path in directories}) < len(directories):
        raise ConfigError(
            f"a comparison takes two or more different directories; got {', '.join(map(str, directories))}"
        )
    if out.exists() and not out.is_dir():
        raise RunDirectoryError(f"'{out}' is a file; choose another --out")
    if RunDir(out).exists():
        raise RunDirectoryError(f"'{out}' is a run itself; choose another --out")
    runs = [Run(name, _stored(path)) for name, path in zip(_names(directories), directories, strict=True)]
    return tuple(out / name for name in write_document(compare_runs(runs), out, "comparison", "tables"))


def _names(directories: Sequence[Path]) -> list[str]:
    """As short as they stay apart: the last part of each path, or the last two, or all of them."""
    for parts in (1, 2):
        names = ["/".join(path.resolve().parts[-parts:]) for path in directories]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in directories]


def _stored(path: Path) -> ReportInput:
    """What a directory holds, without building its network."""
    run = RunDir(path)
    if not path.is_dir():
        raise RunDirectoryError(f"no such directory '{path}'")
    told = read_json_file(path / "report.json") if (path / "report.json").is_file() else {}
    checkpoint = path / "model.safetensors"
    dense = told.get("sizes", {}).get(_DENSE)
    if dense is None and checkpoint.is_file():
        dense = describe(checkpoint).dense_bytes
    sizes = ({_DENSE: int(dense)} if dense is not None else {}) | run_files(path)
    return ReportInput(**_parts(run), sizes=sizes, command=str(told.get("command", "")), versions={})


def _parts(run: RunDir) -> dict[str, Any]:
    """The JSON files of a run; what no stage has made yet is empty.

    Raises:
        RunDirectoryError: there is no mask, a file is broken, or the profile is of an earlier graph.
    """
    if stale(run, "profile") and run.file("profile.json").is_file():
        raise RunDirectoryError(f"'{run.file('profile.json')}' is of an earlier graph; run `ntksap profile` first")
    optional = {
        name: run.read_json(f"{name}.json") if run.file(f"{name}.json").is_file() else {}
        for name in ("metrics", "parity", "profile")
    }
    return {"config": run.read_json("config.json"), "mask": run.read_json("mask.json"), **optional}


def _sizes(context: Context) -> dict[str, int]:
    path = context.run.path
    if not (path / "model.safetensors").is_file():
        return run_files(path)
    dense = describe(path / "model.safetensors").dense_bytes
    if context.channel_plan() is not None:
        dense = sum(value.numel() * value.element_size() for value in context.architecture().state_dict().values())
    return {_DENSE: dense, **run_files(path)}


def command_of(config: RunConfig) -> str:
    """What to type for such a run: every setting that is not the usual one."""
    words = ["ntksap", "prune-train-export", config.model]
    words += [] if config.weights is None else ["--weights", config.weights]
    for stage in STAGE_KEYS:
        usual = defaults(stage)
        for key, value in config.keys_of(stage).items():
            if key not in ("model", "weights_sha256") and value != usual.get(key) and value is not None:
                words += _flag(flag_name(key), value)
    return shlex.join(words)


def _flag(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)]
