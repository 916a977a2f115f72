"""From flags and a TOML file to the configuration of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ntksap_export.cli import console, texts
from ntksap_export.cli.options import given
from ntksap_export.config import RunConfig, make_config, merge, read_toml
from ntksap_export.pipeline import run_stage, summary


def load_config(model: str, file: Path | None, settings: Mapping[str, Any]) -> RunConfig:
    """Lay the flags over the file over the defaults.

    Raises:
        ConfigError: an unknown key, or a value out of range.
    """
    values = merge(read_toml(file) if file else {}, given(settings))
    return make_config({**values, "model": model})


def default_out(config: RunConfig) -> Path:
    """runs/MODEL-DATA-METHOD-SPARSITY."""
    data = Path(config.data).name or "data"
    return Path("runs") / f"{config.model}-{data}-{config.method}-{100 * config.sparsity:g}"


def run_one(stage: str, directory: Path, settings: Mapping[str, Any], json: bool, overwrite: bool = False) -> None:
    """One stage of a directory, and its summary."""
    run_stage(stage, directory, given(settings), overwrite=overwrite, progress=console.make_progress())
    result = summary(directory)
    console.print_json(result) if json else print(texts.summary_text(result))
