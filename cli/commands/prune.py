"""`ntksap prune MODEL`: choose the mask."""

from __future__ import annotations

from typing import Any

from ntksap_export.cli import options
from ntksap_export.cli.options import Config, Json, Model, Out, Overwrite


@options.takes(*options.DATA, *options.PRUNE)
def prune(
    model: Model,
    out: Out = None,
    config: Config = None,
    overwrite: Overwrite = False,
    json: Json = False,
    **settings: Any,
) -> None:
    """Choose which weights live, before training; writes config.json, mask.safetensors and mask.json."""
    from ntksap_export.cli import console, texts
    from ntksap_export.cli.settings import default_out, load_config
    from ntksap_export.pipeline import run_road, summary

    resolved = load_config(model, config, settings)
    directory = out or default_out(resolved)
    run_road(resolved, directory, stages=("prune",), overwrite=overwrite, progress=console.make_progress())
    result = summary(directory)
    console.print_json(result) if json else print(texts.summary_text(result))
