"""`ntksap prune-train-export MODEL`: the whole road."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from ntksap_export.cli import options
from ntksap_export.cli.options import Config, Json, Model, Out, Overwrite, Quiet, Resume

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved plan and write nothing")]


@options.takes("recipe", *options.DATA, *options.PRUNE, *options.TRAIN, *options.EXPORT, *options.PROFILE)
def prune_train_export(
    model: Model = None,
    out: Out = None,
    config: Config = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
    **settings: Any,
) -> None:
    """Prune at initialization, train, save a sparse checkpoint, export ONNX, measure, report.

    The same command again goes on where an interrupted one stopped.
    """
    from ntksap_export.cli import console, texts
    from ntksap_export.cli.settings import check_resume, default_out, load_config
    from ntksap_export.pipeline import plan, process_group, run_road, summary

    resolved = load_config(model, config, settings)
    directory = out or default_out(resolved)
    check_resume(directory, "prune", resume, overwrite)
    if dry_run:
        planned = plan(resolved, directory, overwrite)
        console.print_json(planned) if json else print(texts.plan_text(planned, directory))
        return
    progress = console.make_progress(quiet)
    progress.say(texts.greeting(resolved, directory))
    command = options.as_typed(sys.argv[1:])
    with process_group() as talks:
        run_road(resolved, directory, overwrite=overwrite, progress=progress, command=command)
    if talks:
        result = summary(directory)
        console.print_json(result) if json else print(texts.summary_text(result))
