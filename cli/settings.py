"""From flags and a TOML file to the configuration of a run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ntksap_export import recipes
from ntksap_export.cli import console, texts
from ntksap_export.cli.options import SWEPT, given
from ntksap_export.config import DEFAULT_SPARSITY, RunConfig, make_config, merge
from ntksap_export.config_file import read_toml
from ntksap_export.errors import ConfigError
from ntksap_export.pipeline import RunDir, process_group, run_stage, summary
from ntksap_export.progress import Progress


def load_config(
    model: str | None,
    file: Path | None,
    settings: Mapping[str, Any],
    usual: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
) -> RunConfig:
    """Lay the flags over the file over the recipe over the defaults.

    Args:
        model: where it is named.
        file: of `--config`.
        settings: of the flags.
        usual: fills what all of them leave open, where a verb has defaults of its own.

    Raises:
        ConfigError: no model, no such recipe, an unknown key, or a value out of range.
    """
    return make_config(usual(_with_model(recipes.lay_under(_merged(file, given(settings)), model))))


def load_settings(model: str | None, file: Path | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the flags over the file, for a sweep: several values of a swept key stay several, and the recipe waits.

    Raises:
        ConfigError: no model, no such recipe, an unknown key, or a list with something that is none of its items.
    """
    values = {**_merged(file, given(settings, SWEPT)), **({} if model is None else {"model": model})}
    _with_model(recipes.lay_under(values, None))
    return values


def _merged(file: Path | None, flags: Mapping[str, Any]) -> dict[str, Any]:
    return merge(read_toml(file) if file else {}, flags)


def _with_model(values: dict[str, Any]) -> dict[str, Any]:
    if "model" not in values:
        raise ConfigError("name a MODEL, see `ntksap list models`, or a --recipe that brings one")
    return values


def default_out(config: RunConfig) -> Path:
    """runs/MODEL-DATA-METHOD-BUDGET, and the pattern if it is not the usual one; a plain name, whatever the model's."""
    parts = [*_plain_names(config.model, config.data), config.method]
    if config.pattern != "unstructured":
        parts.append(config.pattern.replace(":", "of"))
    if config.params is not None:
        parts.append(f"{config.params}")
    elif config.channel_share is not None:
        parts.append(f"channels{100 * config.channel_share:g}")
    elif (config.flops is None and config.budget is None and not config.own_budget) or config.sparsity is not None:
        parts.append(f"{100 * (DEFAULT_SPARSITY if config.sparsity is None else config.sparsity):g}")
    if config.flops is not None:
        parts.append(f"flops{100 * config.flops:g}")
    if config.latency is not None:
        parts.append(f"{config.latency.ms:g}ms")
    return Path("runs") / "-".join(parts)


def sweep_out(settings: Mapping[str, Any]) -> Path:
    """runs/sweep-MODEL-DATA."""
    laid = recipes.lay_under(settings, None)
    return Path("runs") / "-".join(("sweep", *_plain_names(laid["model"], laid.get("data", "digits"))))


def _plain_names(model: str, data: str) -> tuple[str, str]:
    """A model and its data as parts of a file's name."""
    shown = re.sub(r"-*[{},][-{},]*", "-", Path(data).name).strip("-") or "data"
    return re.sub(r"[^\w.]+", "-", model), shown


def check_resume(directory: Path, stage: str, resume: bool, overwrite: bool) -> None:
    """`--resume` takes up the whole of a run, or refuses: it neither begins one nor gives one up.

    Raises:
        ConfigError: `--overwrite` beside it.
        RunDirectoryError: nothing was begun there.
    """
    if resume and overwrite:
        raise ConfigError("--resume goes on with a run and --overwrite gives it up; leave one of them away")
    if resume:
        RunDir(directory).check_begun(stage)


def run_one(
    stage: str,
    directory: Path,
    settings: Mapping[str, Any],
    json: bool,
    quiet: bool,
    overwrite: bool = False,
) -> None:
    """One stage of a directory, and its summary."""
    progress = console.make_progress(quiet)
    changes = given(settings)
    if "recipe" in changes:
        changes = recipes.training(changes)
        _say_what_stays(changes["recipe"], directory, progress)
    with process_group() as talks:
        run_stage(stage, directory, changes, overwrite=overwrite, progress=progress)
    if talks:
        result = summary(directory)
        console.print_json(result) if json else print(texts.summary_text(result))


def _say_what_stays(recipe: str, directory: Path, progress: Progress) -> None:
    """A network is pruned once: what a recipe says of that comes too late."""
    if not directory.is_dir():
        return  # the stage says so
    other = recipes.differences(recipe, RunDir(directory).stored_config(), ("prune",))
    if other:
        shown = "; ".join(
            f"{flag} {texts.plain(run)} (recipe: {texts.plain(said)})" for flag, (said, run) in other.items()
        )
        progress.say(f"recipe {recipe}: only its training settings are taken; this network was made with {shown}")
