"""`ntksap prune MODEL`: choose the mask."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ntksap_export.cli import options
from ntksap_export.cli.options import Config, Json, Model, Out, Overwrite, Quiet

Compare = Annotated[
    str | None,
    typer.Option(
        "--compare",
        help="Methods, by commas: print one table; with --out also compare.html",
        show_default=False,
    ),
]


@options.takes("recipe", *options.DATA, *options.PRUNE, *options.SEARCH, *options.TRAIN)
def prune(
    model: Model = None,
    out: Out = None,
    config: Config = None,
    overwrite: Overwrite = False,
    compare: Compare = None,
    json: Json = False,
    quiet: Quiet = False,
    **settings: Any,
) -> None:
    """Choose which weights live, before training; writes config.json, mask.safetensors and mask.json.

    The settings of training are kept for `ntksap train`; methods that train to find their mask use them here.
    """
    from ntksap_export.cli import console, texts
    from ntksap_export.cli.settings import default_out, load_config
    from ntksap_export.pipeline import RunDir, compare_methods, process_group, run_road, summary, write_comparison

    resolved = load_config(model, config, settings)
    directory, progress = out or default_out(resolved), console.make_progress(quiet)
    with process_group() as talks:
        if compare is not None:
            names = [name.strip() for name in compare.split(",") if name.strip()]
            result = compare_methods(resolved, names, RunDir(directory), progress)
            written = write_comparison(result, out) if out and talks else ()
            console.print_json(result) if json else print(texts.compare_text(result), *written, sep="\n")
            return
        run_road(resolved, directory, stages=("prune",), overwrite=overwrite, progress=progress)
        if talks:
            result = summary(directory)
            console.print_json(result) if json else print(texts.summary_text(result))
