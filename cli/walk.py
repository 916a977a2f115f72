"""The whole road, as the verbs that walk it do: plan or go, then the result."""

from __future__ import annotations

import sys
from pathlib import Path

from ntksap_export.cli import console, options, texts
from ntksap_export.cli.settings import check_resume, default_out
from ntksap_export.config import RunConfig
from ntksap_export.pipeline import plan, process_group, run_road, summary


def walk(
    config: RunConfig, out: Path | None, overwrite: bool, resume: bool, dry_run: bool, json: bool, quiet: bool
) -> None:
    """Walk every stage, or only say what it would be.

    Args:
        config: what to do.
        out: where; None is a name made of the settings.
        overwrite: give up another run that the directory holds.
        resume: only go on with a run that was begun.
        dry_run: print the plan and write nothing.
        json: print JSON.
        quiet: nothing on standard error but errors.

    Raises:
        The errors of `run_road`.
    """
    directory = out or default_out(config)
    check_resume(directory, "prune", resume, overwrite)
    if dry_run:
        planned = plan(config, directory, overwrite)
        console.print_json(planned) if json else print(texts.plan_text(planned, directory))
        return
    progress = console.make_progress(quiet)
    progress.say(texts.greeting(config, directory))
    command = options.as_typed(sys.argv[1:])
    with process_group() as talks:
        run_road(config, directory, overwrite=overwrite, progress=progress, command=command)
    if talks:
        result = summary(directory)
        console.print_json(result) if json else print(texts.summary_text(result))
