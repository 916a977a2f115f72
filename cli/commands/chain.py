"""`ntksap prune-train-export MODEL`: the whole road."""

from __future__ import annotations

from typing import Any

from ntksap_export.cli import options
from ntksap_export.cli.options import Config, DryRun, Json, Model, Out, Overwrite, Quiet, Resume


@options.takes("recipe", *options.WHOLE_ROAD)
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
    from ntksap_export.cli.settings import load_config
    from ntksap_export.cli.walk import walk

    walk(load_config(model, config, settings), out, overwrite, resume, dry_run, json, quiet)
