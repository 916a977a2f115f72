"""From flags and a TOML file to the configuration of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ntksap_export.cli import console, texts
from ntksap_export.cli.options import given
from ntksap_export.config import DEFAULT_SPARSITY, RunConfig, make_config, merge, read_toml
from ntksap_export.pipeline import run_stage, summary


def load_config(model: str, file: Path | None, settings: Mapping[str, Any]) -> RunConfig:
    """Lay the flags over the file over the defaults.

    Raises:
        ConfigError: an unknown key, or a value out of range.
    """
    values = merge(read_toml(file) if file else {}, given(settings))
    return make_config({**values, "model": model})


def default_out(config: RunConfig) -> Path:
    """runs/MODEL-DATA-METHOD-BUDGET, and the pattern if it is not the usual one; a plain name, whatever the model's."""
    data = re.sub(r"-*[{},][-{},]*", "-", Path(config.data).name).strip("-") or "data"
    parts = [re.sub(r"[^\w.]+", "-", config.model), data, config.method]
    if config.pattern != "unstructured":
        parts.append(config.pattern.replace(":", "of"))
    if config.params is not None:
        parts.append(f"{config.params}")
    elif (config.flops is None and not config.own_budget) or config.sparsity is not None:
        parts.append(f"{100 * (DEFAULT_SPARSITY if config.sparsity is None else config.sparsity):g}")
    if config.flops is not None:
        parts.append(f"flops{100 * config.flops:g}")
    return Path("runs") / "-".join(parts)


def run_one(stage: str, directory: Path, settings: Mapping[str, Any], json: bool, overwrite: bool = False) -> None:
    """One stage of a directory, and its summary."""
    run_stage(stage, directory, given(settings), overwrite=overwrite, progress=console.make_progress())
    result = summary(directory)
    console.print_json(result) if json else print(texts.summary_text(result))
