"""`ntksap prune-finetune-export MODEL --weights FILE`: the whole road of a network that is trained already."""

from __future__ import annotations

from typing import Any

from ntksap_export.cli import options
from ntksap_export.cli.options import Config, DryRun, Json, Model, Out, Overwrite, Quiet, Resume


@options.takes("recipe", *options.WHOLE_ROAD)
def prune_finetune_export(
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
    """Prune a trained network, fine-tune, save a sparse checkpoint, export ONNX, measure, report.

    Its own defaults: --method l1; --pattern channel where the method judges whole filters; --lr 0.01, --schedule step,
    --warmup-epochs 0, --no-nesterov. The same command again goes on where an interrupted one stopped.
    """
    from ntksap_export.cli.settings import load_config
    from ntksap_export.cli.walk import walk
    from ntksap_export.errors import ConfigError
    from ntksap_export.pipeline import finetuning

    resolved = load_config(model, config, settings, usual=finetuning.lay_under)
    if resolved.weights is None:
        raise ConfigError(
            "prune-finetune-export prunes a trained network, got none; give --weights FILE or --weights RUN_DIR, "
            "or use prune-train-export"
        )
    walk(resolved, out, overwrite, resume, dry_run, json, quiet)
